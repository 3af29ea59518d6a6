package main

import (
	"encoding/base64"
	"encoding/binary"
	"math/rand/v2"
	"time"

	"github.com/sessile-go/sessile/benchmarks/peers"
)

// An op is what a workload does when it does not read.
type op string

const (
	change op = "change" // one transaction that raises both counters
	whole  op = "whole"  // the same, after reading all fields
	churn  op = "churn"  // create a session, change it, read it, leave it to expire
	login  op = "login"  // create a session
)

// A Workload says what is done to the sessions of a table.
type Workload struct {
	Name     string  `json:"name"`
	Title    string  `json:"title"`
	Sessions int     `json:"sessions"`
	Size     int     `json:"size"` // bytes of a session's keys and values
	Draw     string  `json:"draw"` // zipf, uniform or one
	Reads    float64 `json:"reads"`
	Op       op      `json:"op"`
	Callers  int     `json:"callers"`

	MaxMemory  int64         `json:"max_memory,omitempty"` // bytes; 0: ample
	TTL        time.Duration `json:"ttl,omitempty"`
	Checkpoint time.Duration `json:"checkpoint,omitempty"`
	Slice      time.Duration `json:"slice"` // how long a round lasts
}

// workloads returns those of a regime.
func workloads(r peers.Regime, s Scale) []Workload {
	base := Workload{Sessions: s.Sessions, Size: payload, Draw: "zipf", Op: change, Callers: 4, Slice: s.Slice}
	if r == peers.WriteBehind {
		base.Checkpoint = s.Checkpoint
	}
	with := func(name, title string, set func(*Workload)) Workload {
		w := base
		w.Name, w.Title = name, title
		set(&w)
		return w
	}
	if r == peers.Durable {
		durable := func(name, title string, callers int, set func(*Workload)) Workload {
			return with(name, title, func(w *Workload) {
				w.Op, w.Callers, w.Slice = whole, callers, s.DurableSlice
				set(w)
			})
		}
		return []Workload{
			durable("F16", "read-modify-write, zipf, 16 callers at once", 16, func(*Workload) {}),
			durable("F512", "read-modify-write, zipf, 512 callers at once", 512, func(*Workload) {}),
			durable("hot", "one hot session, 64 callers at once", 64, func(w *Workload) { w.Draw = "one" }),
			durable("logins", "logins beside reads: 5 % new sessions, made durable, 95 % reads, zipf, 64 callers at once", 64,
				func(w *Workload) { w.Op, w.Reads = login, 0.95 }),
		}
	}
	all := []Workload{
		with("A", "YCSB A: 50 % reads, 50 % changes, zipf 0.99", func(w *Workload) { w.Reads = 0.5 }),
		with("B", "YCSB B: 95 % reads, 5 % changes, zipf 0.99", func(w *Workload) { w.Reads = 0.95 }),
		with("F", "YCSB F: 50 % reads, 50 % read-modify-write of the whole session, zipf 0.99", func(w *Workload) { w.Reads, w.Op = 0.5, whole }),
		with("hot", "one hot session: 50 % reads, 50 % changes", func(w *Workload) { w.Reads, w.Draw = 0.5, "one" }),
		with("uniform", "uniform over many sessions: 50 % reads, 50 % changes", func(w *Workload) {
			w.Reads, w.Draw, w.Sessions = 0.5, "uniform", s.Million
		}),
		with("churn", "churn: create, change, read, expire after 1 s", func(w *Workload) {
			w.Op, w.Sessions, w.TTL = churn, 1, time.Second
		}),
		with("large", "sessions of 16 KB: 50 % reads, 50 % changes, zipf 0.99", func(w *Workload) {
			w.Reads, w.Sessions, w.Size = 0.5, s.Large, 16<<10
		}),
	}
	if r == peers.WriteBehind {
		all = append(all, with("cold", "ten times more sessions than memory: 50 % reads, 50 % changes, zipf 0.99", func(w *Workload) {
			w.Reads, w.Sessions = 0.5, s.Cold
			w.MaxMemory = max(1<<20, int64(s.Cold)*(payload+hotOverhead)/10)
		}))
	}
	return all
}

const (
	payload     = 300 // bytes of a session's keys and values, unless said
	hotOverhead = 200 // what Sessile holds for a hot session beyond that, about
)

// idOf returns the id of session i, the same for all peers: 128 mixed bits in base64url.
func idOf(i uint64) string {
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], mix(2*i+1))
	binary.LittleEndian.PutUint64(b[8:], mix(2*i+2))
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// mix is SplitMix64's finalizer, a bijection.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func idsOf(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = idOf(uint64(i))
	}
	return ids
}

// drawer returns a function that draws a session's index. Ranks are spread over the
// indices, as YCSB does, so that hot sessions are not neighbours.
func drawer(kind string, n int, r *rand.Rand) func() int {
	switch kind {
	case "one":
		return func() int { return 0 }
	case "uniform":
		return func() int { return r.IntN(n) }
	}
	z := newZipf(n, ycsbTheta)
	order := rand.New(rand.NewPCG(uint64(n), 7)).Perm(n)
	return func() int { return order[z.next(r)] }
}

// isRead marks an access as a read.
const isRead = 1 << 31

// accesses draws the order of accesses of one caller in advance: a session's index each, and whether it reads.
func (w Workload) accesses(draw func() int, r *rand.Rand) []uint32 {
	seq := make([]uint32, max(1<<12, 1<<20/w.Callers))
	for i := range seq {
		seq[i] = uint32(draw())
		if r.Float64() < w.Reads {
			seq[i] |= isRead
		}
	}
	return seq
}
