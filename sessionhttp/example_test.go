package sessionhttp_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/sessionhttp"
)

var visits = sessile.NewKey[int]("visits")

func Example() {
	engine, err := sessile.Open(sessile.Options{InMemory: true}) // or Dir: "data"
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	m, err := sessionhttp.New(engine, sessionhttp.Options{})
	if err != nil {
		log.Fatal(err)
	}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		var n int
		err := sessionhttp.From(r).Update(r.Context(), func(tx sessile.Txn) (err error) {
			n, err = sessile.Add(tx, visits, 1)
			return err
		})
		if err != nil {
			http.Error(w, "no session", sessionhttp.Status(err))
			return
		}
		fmt.Fprintln(w, "visit", n)
	})

	server := httptest.NewServer(m.Handler(mux)) // http.ListenAndServe(addr, m.Handler(mux))
	defer server.Close()
	res, err := http.Get(server.URL)
	if err != nil {
		log.Fatal(err)
	}
	res.Body.Close()
	fmt.Println(res.Status, res.Cookies()[0].Name)
	// Output: 200 OK __Host-id
}

func ExampleSession_Login() {
	http.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		user, ok := checkPassword(r.FormValue("user"), r.FormValue("password"))
		if !ok {
			http.Error(w, "wrong name or password", http.StatusForbidden)
			return
		}
		err := sessionhttp.From(r).Login(r.Context(), user, func(tx sessile.Txn) error {
			if r.FormValue("remember") != "" {
				return sessionhttp.Remember(tx, 14*24*time.Hour)
			}
			return nil
		})
		if err != nil {
			http.Error(w, "login failed", sessionhttp.Status(err))
			return
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
}

func checkPassword(user, _ string) (string, bool) { return user, true }

// A stream that ends when its session does.
func ExampleSession_Done() {
	http.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) {
		s := sessionhttp.From(r)
		ticks := time.NewTicker(time.Second)
		defer ticks.Stop()
		for {
			select {
			case <-s.Done():
				return
			case now := <-ticks.C:
				fmt.Fprintf(w, "data: %v\n\n", now)
				_ = http.NewResponseController(w).Flush()
			}
		}
	})
}

// A handler of one's own, tested as a user who is signed in.
func ExampleManager_Issue() {
	engine, err := sessile.Open(sessile.Options{InMemory: true})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	m, err := sessionhttp.New(engine, sessionhttp.Options{})
	if err != nil {
		log.Fatal(err)
	}
	handler := m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, _ := sessionhttp.From(r).User(r.Context())
		fmt.Fprintf(w, "hello %s", user)
	}))

	cookie, err := m.Issue(context.Background(), "ann", nil)
	if err != nil {
		log.Fatal(err)
	}
	request := httptest.NewRequest("GET", "/", nil)
	request.AddCookie(cookie)
	answer := httptest.NewRecorder()
	handler.ServeHTTP(answer, request)
	fmt.Println(answer.Body)
	// Output: hello ann
}

func ExampleOnce() {
	http.HandleFunc("POST /order", func(w http.ResponseWriter, r *http.Request) {
		err := sessionhttp.From(r).Update(r.Context(), func(tx sessile.Txn) error {
			first, err := sessionhttp.Once(tx, r.FormValue("form"), time.Hour)
			if !first {
				return err // a double click, or an error
			}
			_, err = sessile.Add(tx, visits, 1) // what must happen once
			return err
		})
		if err != nil {
			http.Error(w, "order failed", sessionhttp.Status(err))
		}
	})
}
