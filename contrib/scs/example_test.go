package scsstore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"

	"github.com/alexedwards/scs/v2"
	scsstore "github.com/sessile-go/sessile/contrib/scs"
	"github.com/sessile-go/sessile/contrib/scs/audit"

	"github.com/sessile-go/sessile"
)

// An application on scs changes where it makes its manager, and nowhere else.
func Example() {
	engine, err := sessile.Open(sessile.Options{InMemory: true}) // Dir: "data" in production
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	store, err := scsstore.New(engine, scsstore.Options{})
	if err != nil {
		log.Fatal(err)
	}
	sm := scs.New()
	sm.Store, sm.Codec = store, store.Codec()
	sm.ErrorFunc = scsstore.IgnoreGone(nil)

	// Two requests that overlap: both have loaded before either commits.
	token := visit(sm, "", "first")
	one, _ := sm.Load(context.Background(), token)
	two, _ := sm.Load(context.Background(), token)
	sm.Put(one, "one", 1)
	sm.Put(two, "two", 2)
	_, _, _ = sm.Commit(one)
	_, _, _ = sm.Commit(two)
	after, _ := sm.Load(context.Background(), token)
	fmt.Println(sm.Keys(after))

	// A request that lies over a logout.
	slow, _ := sm.Load(context.Background(), token)
	_ = sm.Destroy(after)
	sm.Put(slow, "late", true)
	_, _, err = sm.Commit(slow)
	fmt.Println(errors.Is(err, scsstore.ErrGone))
	// Output:
	// [first one two]
	// true
}

func visit(sm *scs.SessionManager, token, key string) string {
	ctx, _ := sm.Load(context.Background(), token)
	sm.Put(ctx, key, true)
	token, _, _ = sm.Commit(ctx)
	return token
}

// Where a value is read and written back, a transaction loses nothing. It works on a key of the engine's, beside scs's
// values.
func ExampleStore_ID() {
	engine, err := sessile.Open(sessile.Options{InMemory: true})
	if err != nil {
		log.Fatal(err)
	}
	defer engine.Close()
	store, err := scsstore.New(engine, scsstore.Options{})
	if err != nil {
		log.Fatal(err)
	}
	sm := scs.New()
	sm.Store, sm.Codec = store, store.Codec()
	token := visit(sm, "", "first")

	visits := sessile.NewKey[int]("visits")
	err = engine.Update(context.Background(), store.ID(token), func(tx sessile.Txn) error {
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
	sm := scs.New() // with whatever store
	a := audit.Wrap(sm, audit.Options{Logger: slog.New(slog.DiscardHandler)})
	http.HandleFunc("/debug/sessions", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%+v\n", a.Stats())
	})

	token := visit(sm, "", "first")
	one, _ := sm.Load(context.Background(), token)
	two, _ := sm.Load(context.Background(), token)
	sm.Put(one, "one", 1)
	sm.Put(two, "two", 2)
	_, _, _ = sm.Commit(one)
	_, _, _ = sm.Commit(two)
	fmt.Println("lost updates:", a.Stats().Lost())
	// Output: lost updates: 1
}
