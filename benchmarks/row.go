package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sessile-go/sessile/benchmarks/peers"
)

// A row is one peer under one workload, in a process of its own, so that no
// peer pays for the heap or the garbage collector of another. Its process obeys the table's,
// a line of JSON each way: first the rowSpec; then, for each round, a duration in nanoseconds; then 0, upon
// which it counts and ends.
type rowSpec struct {
	Regime   peers.Regime `json:"regime"`
	Peer     string       `json:"peer"`
	Workload Workload     `json:"workload"`
	Dir      string       `json:"dir"`
}

// A rowAnswer is what the row's process says to each line.
type rowAnswer struct {
	Error       string        `json:"error,omitempty"`
	Unavailable bool          `json:"unavailable,omitempty"`
	Ops         int64         `json:"ops,omitempty"`
	Time        time.Duration `json:"time,omitempty"`
	Totals      *Totals       `json:"totals,omitempty"` // in the last answer
}

// Totals are what was counted over all rounds of a row.
type Totals struct {
	Changes int64 `json:"changes"` // acknowledged
	Reads   int64 `json:"reads"`
	Lost    int64 `json:"lost"` // changes acknowledged and not there at the end
	Torn    int64 `json:"torn"` // reads that saw half of a change
	Counted bool  `json:"counted"`
}

// serveRow is the row's process.
func serveRow(in io.Reader, out io.Writer) (err error) {
	lines, answers := json.NewDecoder(bufio.NewReader(in)), json.NewEncoder(out)
	var spec rowSpec
	if err := lines.Decode(&spec); err != nil {
		return err
	}
	r, err := openRow(spec)
	if err != nil {
		return answers.Encode(rowAnswer{Error: err.Error(), Unavailable: errors.Is(err, peers.ErrUnavailable)})
	}
	defer func() { err = errors.Join(err, r.peer.Close()) }()
	if err := answers.Encode(rowAnswer{}); err != nil {
		return err
	}
	for {
		var d time.Duration
		if err := lines.Decode(&d); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		var a rowAnswer
		if d == 0 {
			a.Totals, err = r.totals()
		} else {
			a.Ops, a.Time, err = r.round(d)
		}
		if err != nil {
			a.Error = err.Error()
		}
		if err := answers.Encode(a); err != nil || d == 0 || a.Error != "" {
			return err
		}
	}
}

// A row drives one peer with several callers and keeps account of what it acknowledged.
type row struct {
	peer     peers.Peer
	kind     peers.Kind
	workload Workload
	ids      []string
	callers  []*caller
	clock    atomic.Int64 // milliseconds, coarse; runs during rounds
}

// A caller is one goroutine of a row.
type caller struct {
	row    *row
	number int
	seq    []uint32
	at     int

	changes, reads, torn, lost int64

	// Churn and logins.
	made    int
	expires []made // that the caller itself must delete, oldest first
}

type made struct {
	id string
	at int64
}

func openRow(spec rowSpec) (*row, error) {
	w := spec.Workload
	kind, ok := peers.Find(spec.Regime, spec.Peer)
	if !ok {
		return nil, fmt.Errorf("no peer %q in regime %s", spec.Peer, spec.Regime)
	}
	p, err := kind.Open(peers.Config{
		Regime: spec.Regime, Dir: spec.Dir, Size: w.Size, Callers: w.Callers,
		MaxMemory: w.MaxMemory, TTL: w.TTL, Checkpoint: w.Checkpoint,
	})
	if err != nil {
		return nil, err
	}
	r, err := newRow(p, w)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	r.kind = kind
	return r, nil
}

// newRow fills the peer and draws the accesses.
func newRow(p peers.Peer, w Workload) (*row, error) {
	r := &row{peer: p, workload: w, ids: idsOf(w.Sessions)}
	if err := p.Fill(r.ids); err != nil {
		return nil, fmt.Errorf("fill: %w", err)
	}
	random := rand.New(rand.NewPCG(1, uint64(w.Sessions)))
	draw := drawer(w.Draw, w.Sessions, random)
	for i := range w.Callers {
		r.callers = append(r.callers, &caller{row: r, number: i, seq: w.accesses(draw, random)})
	}
	return r, nil
}

// resumed is how long a round waits before it begins. The process was stopped until a moment ago, and a peer that reads
// the time from a clock that it renews every few milliseconds would give a session the time of the stop, and a second
// later that of now: a session that lives for one second would have ended before it was used.
const resumed = 25 * time.Millisecond

// round lets all callers run for d, after a warm-up of a tenth of that, and returns how much
// they did in how long.
func (r *row) round(d time.Duration) (ops int64, took time.Duration, err error) {
	time.Sleep(resumed)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var ticker sync.WaitGroup
	ticker.Go(func() {
		for tick := time.NewTicker(time.Millisecond); ctx.Err() == nil; <-tick.C {
			r.clock.Store(time.Now().UnixMilli())
		}
	})
	defer ticker.Wait()
	defer stop()
	r.clock.Store(time.Now().UnixMilli())
	if _, _, err := r.run(d / 10); err != nil {
		return 0, 0, err
	}
	return r.run(d)
}

func (r *row) run(d time.Duration) (int64, time.Duration, error) {
	var ops atomic.Int64
	var over atomic.Bool
	var first atomic.Pointer[error]
	var callers sync.WaitGroup
	start := time.Now()
	for _, c := range r.callers {
		callers.Go(func() {
			n, err := c.run(&over)
			ops.Add(n)
			if err != nil {
				first.CompareAndSwap(nil, &err)
				over.Store(true)
			}
		})
	}
	timer := time.AfterFunc(d, func() { over.Store(true) })
	callers.Wait()
	timer.Stop()
	took := time.Since(start)
	if err := first.Load(); err != nil {
		return 0, 0, *err
	}
	return ops.Load(), took, nil
}

// run does one access after another until over.
func (c *caller) run(over *atomic.Bool) (n int64, err error) {
	for ; !over.Load(); n++ {
		access := c.seq[c.at]
		if c.at++; c.at == len(c.seq) {
			c.at = 0
		}
		id := c.row.ids[access&^isRead]
		switch {
		case access&isRead != 0:
			err = c.read(id)
		case c.row.workload.Op == churn:
			err = c.churn()
		case c.row.workload.Op == login:
			err = c.login()
		default:
			if err = c.row.peer.Change(id, c.row.workload.Op == whole); err == nil {
				c.changes++
			}
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (c *caller) read(id string) error {
	pair, err := c.row.peer.Read(id)
	if err != nil {
		return err
	}
	c.reads++
	if pair.A != pair.B {
		c.torn++
	}
	return nil
}

// newID returns an id that no other caller makes.
func (c *caller) newID() string {
	c.made++
	return idOf(1<<48 | uint64(c.number)<<32 | uint64(c.made))
}

// churn is the short life of a session.
func (c *caller) churn() error {
	p, id := c.row.peer, c.newID()
	if err := p.Create(id); err != nil {
		return err
	}
	if err := p.Change(id, false); err != nil {
		return err
	}
	pair, err := p.Read(id)
	if err != nil {
		return err
	}
	c.changes++
	c.reads++
	c.lost += 1 - pair.A
	if pair.A != pair.B {
		c.torn++
	}
	if c.row.kind.Expires {
		return nil
	}
	now := c.row.clock.Load()
	c.expires = append(c.expires, made{id, now})
	for len(c.expires) > 0 && now-c.expires[0].at > c.row.workload.TTL.Milliseconds() {
		if err := p.Delete(c.expires[0].id); err != nil {
			return err
		}
		c.expires = c.expires[1:]
	}
	return nil
}

func (c *caller) login() error {
	if err := c.row.peer.Create(c.newID()); err != nil {
		return err
	}
	c.changes++
	return nil
}

// totals holds what is there against what was acknowledged.
func (r *row) totals() (*Totals, error) {
	t := &Totals{Counted: true}
	for _, c := range r.callers {
		t.Changes += c.changes
		t.Reads += c.reads
		t.Torn += c.torn
		t.Lost += c.lost
	}
	switch r.workload.Op {
	case churn:
		return t, nil // each counted at once
	case login:
		for _, c := range r.callers {
			for i := range c.made {
				if _, err := r.peer.Read(idOf(1<<48 | uint64(c.number)<<32 | uint64(i+1))); err != nil {
					t.Lost++
				}
			}
		}
		return t, nil
	}
	sum, err := r.sum()
	if errors.Is(err, peers.ErrNoSessions) {
		t.Counted = false
		return t, nil
	}
	t.Lost += t.Changes - sum
	return t, err
}

// sum adds up the counters of all sessions.
func (r *row) sum() (int64, error) {
	if s, ok := r.peer.(peers.Summer); ok {
		return s.Sum(r.ids)
	}
	sum := int64(0)
	for _, id := range r.ids {
		pair, err := r.peer.Read(id)
		if err != nil {
			return 0, err
		}
		sum += pair.A
	}
	return sum, nil
}
