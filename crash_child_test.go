package sessile_test

import (
	"errors"
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/internal/store"
	"github.com/stretchr/testify/require"
)

// A crashChild works on a directory until its process ends. What it tells on its standard
// output before that, its parent holds it to:
//
//	ready        the engine is open
//	durable N    all history up to N is on disk: a Flush returned nil
//	saved G N S  the durable Update of worker G to N returned nil, and step S was committed before
//	token G T    the durable login of worker G that made the token T returned nil
//	ended ID     what ended the session returned nil
//
// The history is numbered, and step N is an Update of session step(N) to N.
type crashChild struct {
	t      *testing.T
	e      *sessile.Engine
	seed   int64
	newest atomic.Int64 // step
	mu     sync.Mutex   // of the standard output
}

func TestCrashChild(t *testing.T) {
	dir := os.Getenv("SESSILE_CRASH_DIR")
	if dir == "" {
		t.Skip("run by other tests in a process of its own")
	}
	seed, err := strconv.ParseInt(os.Getenv("SESSILE_CRASH_SEED"), 10, 64)
	require.NoError(t, err)
	e, err := openToCrash(crashOptions(dir, os.Getenv("SESSILE_CRASH_ENCRYPTED") != ""), seed)
	require.NoError(t, err)
	c := &crashChild{t: t, e: e, seed: seed}
	for i := range crashSessions {
		c.newest.Store(max(c.newest.Load(), c.value(fmt.Sprint("step", i))))
	}
	c.fund()
	c.tell("ready")
	go c.history()
	go c.flush()
	for g := range crashWorkers {
		go c.work(g)
	}
	select {}
}

// openToCrash opens an engine whose log has, every other time, such small files that they are used again in the short life of a child.
func openToCrash(opt sessile.Options, seed int64) (*sessile.Engine, error) {
	if seed%2 == 0 {
		return sessile.Open(opt)
	}
	st, err := store.OpenBadger(opt.Dir, store.BadgerOptions{SegmentSize: 32 << 10})
	if err != nil {
		return nil, err
	}
	return sessile.OpenOn(opt, st)
}

func (c *crashChild) tell(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Printf(format+"\n", args...)
}

// orDie ends the process on any error: none is expected of a disk that is well.
func orDie(err error) {
	if err != nil {
		panic(err)
	}
}

func (c *crashChild) value(id string) (v int64) {
	err := c.e.View(ctx, id, func(tx sessile.Txn) (err error) { v, err = counter.Get(tx); return err })
	if !errors.Is(err, sessile.ErrNotFound) {
		orDie(err)
	}
	return v
}

// fund opens the accounts, all at once.
func (c *crashChild) fund() {
	var ids []string
	for i := range crashAccounts {
		ids = append(ids, fmt.Sprint("account", i))
	}
	orDie(c.e.UpsertMany(ctx, ids, func(txs []sessile.Txn) error {
		if txs[0].Info().Version != 0 {
			return nil
		}
		for _, tx := range txs {
			orDie(counter.Set(tx, crashBalance))
		}
		txs[0].Durable()
		return nil
	}))
}

func (c *crashChild) history() {
	for {
		n := c.newest.Load() + 1
		orDie(c.e.Upsert(ctx, step(n), func(tx sessile.Txn) error { return counter.Set(tx, n) }))
		c.newest.Store(n)
	}
}

func (c *crashChild) flush() {
	for {
		n := c.newest.Load()
		orDie(c.e.Flush(ctx))
		c.tell("durable %d", n)
	}
}

// work does durable updates, logins, transfers, and sessions that begin and end.
func (c *crashChild) work(g int) {
	r := rand.New(rand.NewSource(c.seed + int64(g)))
	e, mine, user := c.e, fmt.Sprint("worker", g), fmt.Sprint("user", g)
	for _, err := range e.ByUser(ctx, user) { // of an earlier life
		orDie(err)
	}
	var live []string
	for n := c.value(mine) + 1; ; n++ {
		before, token := c.newest.Load(), ""
		orDie(e.Upsert(ctx, mine, func(tx sessile.Txn) (err error) {
			tx.Durable()
			if n%5 == 0 {
				token, err = tx.NewToken(sessile.TokenLogin)
				orDie(err)
			}
			return counter.Set(tx, n)
		}))
		c.tell("saved %d %d %d", g, n, before)
		if token != "" {
			c.tell("token %d %s", g, token)
		}
		from, to := fmt.Sprint("account", r.Intn(crashAccounts)), fmt.Sprint("account", r.Intn(crashAccounts))
		orDie(e.UpdateMany(ctx, []string{from, to}, func(txs []sessile.Txn) error {
			_, err := sessile.Add(txs[0], counter, -1)
			orDie(err)
			_, err = sessile.Add(txs[1], counter, 1)
			return err
		}))
		live = append(live, create(c.t, e, func(tx sessile.Txn) error {
			orDie(tx.SetUser(user))
			return tx.Set("pad", make([]byte, r.Intn(2000)))
		}))
		live = c.end(r, user, live)
	}
}

// end ends some of the worker's sessions, in one of all ways.
func (c *crashChild) end(r *rand.Rand, user string, live []string) []string {
	var ended []string
	last := live[len(live)-1]
	switch r.Intn(12) {
	case 0, 1, 2:
		orDie(c.e.Delete(ctx, last))
		ended = live[len(live)-1:]
	case 3:
		orDie(c.e.Update(ctx, last, func(tx sessile.Txn) error { return tx.Destroy() }))
		ended = live[len(live)-1:]
	case 4:
		_, err := c.e.DeleteUser(ctx, user)
		orDie(err)
		ended = live
	case 5:
		_, err := c.e.KeepNewest(ctx, user, 0)
		orDie(err)
		ended = live
	}
	for _, id := range ended {
		c.tell("ended %s", id)
	}
	return live[:len(live)-len(ended)]
}
