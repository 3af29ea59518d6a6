package sessile_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sessile-go/sessile"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// openExample opens an engine in memory, as one does in tests.
func openExample() *sessile.Engine {
	e, err := sessile.Open(sessile.Options{InMemory: true})
	must(err)
	return e
}

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "sessions")
	must(err)
	defer os.RemoveAll(dir)

	engine, err := sessile.Open(sessile.Options{Dir: dir, IdleTimeout: 30 * time.Minute})
	must(err)
	id, err := engine.Create(context.Background(), func(tx sessile.Txn) error {
		return tx.Set("theme", []byte("dark"))
	})
	must(err)
	must(engine.Close())

	engine, err = sessile.Open(sessile.Options{Dir: dir})
	must(err)
	defer engine.Close()
	must(engine.View(context.Background(), id, func(tx sessile.Txn) error {
		theme, _ := tx.Get("theme")
		fmt.Printf("%s\n", theme)
		return nil
	}))
	// Output: dark
}

func ExampleEngine_Update() {
	engine := openExample()
	defer engine.Close()
	ctx := context.Background()
	id, err := engine.Create(ctx, nil)
	must(err)

	stock := sessile.NewKey[int]("stock")
	buy := func(n int) error {
		return engine.Update(ctx, id, func(tx sessile.Txn) error {
			left, err := sessile.Add(tx, stock, -n)
			if err != nil {
				return err
			}
			if left < 0 {
				return errors.New("sold out") // nothing is changed
			}
			return nil
		})
	}
	must(engine.Update(ctx, id, func(tx sessile.Txn) error { return stock.Set(tx, 5) }))
	fmt.Println(buy(3))
	fmt.Println(buy(3))
	left, err := sessile.Read(ctx, engine.Session(id), stock)
	fmt.Println(left, err)
	// Output:
	// <nil>
	// sold out
	// 2 <nil>
}

func ExampleEngine_View() {
	engine := openExample()
	defer engine.Close()
	ctx := context.Background()
	must(engine.CreateID(ctx, "user:42", func(tx sessile.Txn) error {
		return errors.Join(tx.Set("b", []byte("2")), tx.Set("a", []byte("1")))
	}))
	must(engine.View(ctx, "user:42", func(tx sessile.Txn) error {
		for key, value := range tx.All() {
			fmt.Printf("%s=%s\n", key, value)
		}
		return nil
	}))
	fmt.Println(engine.View(ctx, "nobody", nil))
	// Output:
	// a=1
	// b=2
	// sessile: session not found: "nobody"
}

func ExampleKey() {
	engine := openExample()
	defer engine.Close()
	ctx := context.Background()

	type Cart struct{ Items []string }
	cart := sessile.NewKey[Cart]("cart")
	notice := sessile.NewKey[string]("notice")

	id, err := engine.Create(ctx, func(tx sessile.Txn) error {
		return errors.Join(
			cart.Modify(tx, func(c *Cart) error { c.Items = append(c.Items, "pearl"); return nil }),
			notice.Set(tx, "welcome"),
		)
	})
	must(err)
	must(engine.Update(ctx, id, func(tx sessile.Txn) error {
		text, ok, err := notice.Pop(tx) // shown once
		fmt.Println(text, ok, err)
		text, ok, err = notice.Pop(tx)
		fmt.Printf("%q %v %v\n", text, ok, err)
		return nil
	}))
	c, err := sessile.Read(ctx, engine.Session(id), cart)
	fmt.Println(c.Items, err)
	// Output:
	// welcome true <nil>
	// "" false <nil>
	// [pearl] <nil>
}

func ExampleEngine_UpdateMany() {
	engine := openExample()
	defer engine.Close()
	ctx := context.Background()
	coins := sessile.NewKey[int]("coins")
	players := []string{"player:ann", "player:bob"}
	must(engine.UpsertMany(ctx, players, func(txs []sessile.Txn) error {
		return coins.Set(txs[0], 10)
	}))
	must(engine.UpdateMany(ctx, players, func(txs []sessile.Txn) error {
		if _, err := sessile.Add(txs[0], coins, -4); err != nil {
			return err
		}
		_, err := sessile.Add(txs[1], coins, 4)
		return err
	}))
	must(engine.ViewMany(ctx, players, func(txs []sessile.Txn) error {
		for _, tx := range txs {
			n, _ := coins.Get(tx)
			fmt.Println(tx.ID(), n)
		}
		return nil
	}))
	// Output:
	// player:ann 6
	// player:bob 4
}

func ExampleTxn_Durable() {
	engine := openExample()
	defer engine.Close()
	ctx := context.Background()
	paid := sessile.NewKey[bool]("paid")
	id, err := engine.Create(ctx, nil)
	must(err)

	err = engine.Update(ctx, id, func(tx sessile.Txn) error {
		tx.Durable() // Update returns when this is on disk
		return paid.Set(tx, true)
	})
	if errors.Is(err, sessile.ErrDurabilityUnknown) {
		fmt.Println("stands in memory; the disk has not confirmed it")
	}
	fmt.Println(err)
	// Output: <nil>
}

func ExampleEngine_ByUser() {
	engine := openExample()
	defer engine.Close()
	ctx := context.Background()
	must(engine.CreateID(ctx, "phone", func(tx sessile.Txn) error { return tx.SetUser("ann") }))
	for info, err := range engine.ByUser(ctx, "ann") {
		must(err)
		fmt.Println(info.ID, info.User)
	}
	// Output: phone ann
}

func ExampleEngine_DeleteUser() {
	engine := openExample()
	defer engine.Close()
	ctx := context.Background()
	for _, id := range []string{"phone", "laptop", "tv"} {
		must(engine.CreateID(ctx, id, func(tx sessile.Txn) error { return tx.SetUser("ann") }))
	}
	n, err := engine.DeleteUser(ctx, "ann", "laptop") // all but this one
	fmt.Println(n, err)
	fmt.Println(engine.View(ctx, "phone", nil))
	// Output:
	// 2 <nil>
	// sessile: session not found: "phone"
}

func ExampleEngine_Wait() {
	engine := openExample()
	defer engine.Close()
	ctx := context.Background()
	id, err := engine.Create(ctx, nil)
	must(err)
	seen, err := engine.Wait(ctx, id, 0)
	must(err)

	go func() {
		must(engine.Update(ctx, id, func(tx sessile.Txn) error { return tx.Set("news", nil) }))
	}()
	info, err := engine.Wait(ctx, id, seen.Version) // until somebody commits
	fmt.Println(info.Version > seen.Version, err)
	// Output: true <nil>
}

func ExampleTxn_NewToken() {
	engine := openExample()
	defer engine.Close()
	ctx := context.Background()
	var before, after string
	id, err := engine.Create(ctx, func(tx sessile.Txn) (err error) {
		before, err = tx.NewToken(sessile.TokenLogin) // for the cookie of a new visitor
		return err
	})
	must(err)
	must(engine.Update(ctx, id, func(tx sessile.Txn) (err error) {
		after, err = tx.NewToken(sessile.TokenLogin) // at the login
		return errors.Join(err, tx.SetUser("ann"))
	}))

	grant, err := engine.Resolve(ctx, after)
	fmt.Println(grant.ID == id, grant.Epoch, err)
	_, err = engine.Resolve(ctx, before)
	fmt.Println(err)
	// Output:
	// true 2 <nil>
	// sessile: token renewed
}
