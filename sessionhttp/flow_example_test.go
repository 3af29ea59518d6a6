package sessionhttp_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/sessionhttp"
)

// Two tabs log in with an identity provider at once. Each has a flow of its own, and a state is good once.
func ExampleBeginFlow() {
	engine, err := sessile.Open(sessile.Options{InMemory: true})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	m, err := sessionhttp.New(engine, sessionhttp.Options{})
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, r *http.Request) {
		var state string
		err := sessionhttp.From(r).Update(r.Context(), func(tx sessile.Txn) (err error) {
			state, err = sessionhttp.BeginFlow(tx, "oauth", 10*time.Minute, []byte(r.FormValue("next")))
			return err
		})
		if err != nil {
			http.Error(w, "try again", sessionhttp.Status(err))
			return
		}
		fmt.Fprint(w, state) // a redirect to the provider, with the state
	})
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		var next []byte
		var known bool
		err := sessionhttp.From(r).Update(r.Context(), func(tx sessile.Txn) (err error) {
			next, known, err = sessionhttp.TakeFlow(tx, "oauth", r.FormValue("state"))
			return err
		})
		if err != nil || !known {
			fmt.Fprint(w, "please log in again")
			return
		}
		fmt.Fprint(w, "on to ", string(next)) // exchange the code, then Login
	})
	server := httptest.NewTLSServer(m.Handler(mux))
	defer server.Close()

	browser := server.Client()
	if browser.Jar, err = cookiejar.New(nil); err != nil {
		log.Fatal(err)
	}
	get := func(path string) string {
		res, err := browser.Get(server.URL + path)
		if err != nil {
			log.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			log.Fatal(err)
		}
		return string(body)
	}
	one, two := get("/login?next=cart"), get("/login?next=orders")
	fmt.Println(get("/callback?state=" + url.QueryEscape(two)))
	fmt.Println(get("/callback?state=" + url.QueryEscape(one)))
	fmt.Println(get("/callback?state=" + url.QueryEscape(one)))
	// Output:
	// on to orders
	// on to cart
	// please log in again
}
