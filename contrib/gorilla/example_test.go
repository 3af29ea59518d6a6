package gorillastore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/gorilla/sessions"
	gorillastore "github.com/sessile-go/sessile/contrib/gorilla"
	"github.com/sessile-go/sessile/contrib/gorilla/audit"

	"github.com/sessile-go/sessile"
)

// An application on gorilla/sessions changes where it makes its store, and nowhere else.
func Example() {
	engine, err := sessile.Open(sessile.Options{InMemory: true}) // Dir: "data" in production
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	store, err := gorillastore.New(engine, authKey)
	if err != nil {
		log.Fatal(err)
	}

	// Two requests that overlap: both have loaded before either saves.
	cookie := begin(store)
	one, two := with(cookie), with(cookie)
	s1, _ := store.Get(one, "app")
	s2, _ := store.Get(two, "app")
	s1.Values["one"] = 1
	s2.Values["two"] = 2
	_ = s1.Save(one, httptest.NewRecorder())
	_ = s2.Save(two, httptest.NewRecorder())
	after := with(cookie)
	s3, _ := store.Get(after, "app")
	fmt.Println(s3.Values)

	// A request that lies over a logout.
	slow := with(cookie)
	s4, _ := store.Get(slow, "app")
	s3.Options.MaxAge = -1
	_ = s3.Save(after, httptest.NewRecorder())
	s4.Values["late"] = true
	err = s4.Save(slow, httptest.NewRecorder())
	fmt.Println(errors.Is(err, gorillastore.ErrGone))
	// Output:
	// map[first:true one:1 two:2]
	// true
}

// begin makes a session and returns its cookie.
func begin(store sessions.Store) *http.Cookie {
	r, w := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
	session, _ := store.Get(r, "app")
	session.Values["first"] = true
	if err := session.Save(r, w); err != nil {
		log.Fatal(err)
	}
	return w.Result().Cookies()[0]
}

func with(c *http.Cookie) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	r.AddCookie(c)
	return r
}

// Where a value is read and written back, a transaction loses nothing. It works on a key of the engine's, beside gorilla's
// values.
func ExampleStore_Get() {
	engine, err := sessile.Open(sessile.Options{InMemory: true})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	store, err := gorillastore.New(engine, authKey)
	if err != nil {
		log.Fatal(err)
	}
	session, err := store.Get(with(begin(store)), "app")
	if err != nil {
		log.Fatal(err)
	}
	visits := sessile.NewKey[int]("visits")
	err = engine.Update(context.Background(), session.ID, func(tx sessile.Txn) error {
		n, err := sessile.Add(tx, visits, 1)
		fmt.Println("visit", n)
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
	// Output: visit 1
}

// What does the application lose today? The audit stands around the store that it has.
func Example_audit() {
	store, a := audit.Wrap(sessions.NewFilesystemStore("", authKey), audit.Options{})

	cookie := begin(store)
	one, two := with(cookie), with(cookie)
	s1, _ := store.Get(one, "app")
	s2, _ := store.Get(two, "app")
	s1.Values["one"] = 1
	s2.Values["two"] = 2
	_ = s1.Save(one, httptest.NewRecorder())
	_ = s2.Save(two, httptest.NewRecorder())
	fmt.Println("lost updates:", a.Stats().Lost())

	s2.Options.MaxAge = -1
	_ = s2.Save(two, httptest.NewRecorder())
	// Output: lost updates: 1
}
