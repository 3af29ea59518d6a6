package sessionchi_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/go-chi/chi/v5"
	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/sessionhttp"
)

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

	visits := sessile.NewKey[int]("visits")
	r := chi.NewRouter()
	r.Use(m.Handler)
	r.Get("/{name}", func(w http.ResponseWriter, r *http.Request) {
		var n int
		err := sessionhttp.From(r).Update(r.Context(), func(tx sessile.Txn) (err error) {
			n, err = sessile.Add(tx, visits, 1)
			return err
		})
		if err != nil {
			http.Error(w, "no session", sessionhttp.Status(err))
			return
		}
		fmt.Fprintf(w, "hello %s, visit %d", chi.URLParam(r, "name"), n)
	})

	server := httptest.NewServer(r) // http.ListenAndServe(addr, r)
	defer server.Close()
	res, err := http.Get(server.URL + "/ann")
	if err != nil {
		log.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %s\n", res.Cookies()[0].Name, body)
	// Output: __Host-id: hello ann, visit 1
}
