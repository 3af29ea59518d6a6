package sessile_test

import (
	"encoding/binary"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/puzpuzpuz/xsync/v3"
	"github.com/sessile-go/sessile"
)

// Each benchmark runs the engine and a raw baseline in alternating slices of
// one run, on the same keys in the same order, so that noise meets both. It reports
// the engine as ns/op, the baseline as raw-ns/op, and ratio, the first divided by
// the second (or the other way round where the name says speedup).

// payload is the size of a session's keys and values.
const payload = 300

// fill makes a session of payload bytes: a counter and a few strings.
func fill(tx sessile.Txn) error {
	if err := counter.Set(tx, 1); err != nil {
		return err
	}
	rest := payload - len("counter") - 9 - len("csrf") - 33 - len("name") - 20 - len("profile")
	for _, f := range []struct {
		key string
		n   int
	}{{"csrf", 33}, {"name", 20}, {"profile", rest}} {
		if err := tx.Set(f.key, []byte(strings.Repeat("x", f.n))); err != nil {
			return err
		}
	}
	return nil
}

// A raw session is what one could write by hand: a map, a mutex, 8 bytes.
type raw struct {
	mu    sync.Mutex
	value [8]byte
	_     [payload - 8]byte
}

// A population is the same sessions in the engine and in the baseline.
type population struct {
	e   *sessile.Engine
	m   *xsync.MapOf[string, *raw]
	ids []string
}

var populations = map[string]*population{}

// populate makes n sessions; a population of a million is made once.
func populate(b *testing.B, n int, inMemory bool) *population {
	b.Helper()
	name := fmt.Sprint(n, inMemory)
	if p := populations[name]; p != nil {
		return p
	}
	if n >= 1_000_000 && testing.Short() {
		b.Skip("a million sessions take a while; not with -short")
	}
	opt := sessile.Options{InMemory: inMemory, MaxMemory: 4 << 30}
	if !inMemory {
		dir, err := os.MkdirTemp("", "sessile-bench-")
		if err != nil {
			b.Fatal(err)
		}
		opt.Dir = dir
	}
	e, err := sessile.Open(opt)
	if err != nil {
		b.Fatal(err)
	}
	p := &population{e: e, m: xsync.NewMapOf[string, *raw](), ids: make([]string, n)}
	for i := range p.ids {
		id, err := e.Create(ctx, fill)
		if err != nil {
			b.Fatal(err)
		}
		p.ids[i] = id
		p.m.Store(strings.Clone(id), new(raw))
	}
	if err := e.Flush(ctx); err != nil {
		b.Fatal(err)
	}
	populations[name] = p
	return p
}

// TestMain removes what the populations left.
func TestMain(m *testing.M) {
	code := m.Run()
	for _, p := range populations {
		_ = p.e.Close()
	}
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), "sessile-bench-*"))
	for _, d := range dirs {
		_ = os.RemoveAll(d)
	}
	os.Exit(code)
}

const sequence = 1 << 18 // accesses drawn in advance

// sequences of accesses: uniform, zipf (s 1.01, as YCSB's 0.99 is not to be had of math/rand), one.
func (p *population) draw(kind string) []string {
	r := rand.New(rand.NewSource(1))
	z := rand.NewZipf(r, 1.01, 1, uint64(len(p.ids)-1))
	order := r.Perm(len(p.ids))
	seq := make([]string, sequence)
	for i := range seq {
		switch kind {
		case "uniform":
			seq[i] = p.ids[r.Intn(len(p.ids))]
		case "zipf":
			seq[i] = p.ids[order[z.Uint64()]]
		case "one":
			seq[i] = p.ids[0]
		}
	}
	// Each access brings an id of its own, in memory just written, as a request does: not the string
	// that the map holds.
	all := strings.Join(seq, "")
	for i := range seq {
		n := len(seq[i])
		seq[i], all = all[:n], all[n:]
	}
	return seq
}

// interleave runs ours and the baseline in slices and reports both.
func interleave(b *testing.B, ours, baseline func(from, to int)) {
	b.Helper()
	b.ReportAllocs()
	slice := max(1, min(b.N/8, 1<<16))
	ours(0, min(slice, 1000))
	baseline(0, min(slice, 1000))
	b.ResetTimer()
	b.StopTimer()
	var own, other time.Duration
	for from := 0; from < b.N; from += slice {
		to := min(from+slice, b.N)
		start := time.Now()
		baseline(from, to)
		other += time.Since(start)
		b.StartTimer()
		start = time.Now()
		ours(from, to)
		own += time.Since(start)
		b.StopTimer()
	}
	b.ReportMetric(float64(other.Nanoseconds())/float64(b.N), "raw-ns/op")
	if other > 0 {
		b.ReportMetric(float64(own)/float64(other), "ratio")
	}
}

// both runs the benchmark over the sizes and distributions.
func both(b *testing.B, run func(b *testing.B, p *population, seq []string)) {
	for _, c := range []struct {
		n        int
		inMemory bool
		kinds    []string
	}{
		{1000, false, []string{"uniform", "one"}},
		{10_000, false, []string{"uniform"}},
		{1_000_000, true, []string{"uniform", "zipf"}},
	} {
		for _, kind := range c.kinds {
			place := "disk"
			if c.inMemory {
				place = "memory"
			}
			b.Run(fmt.Sprintf("sessions=%d/%s/%s", c.n, place, kind), func(b *testing.B) {
				p := populate(b, c.n, c.inMemory)
				run(b, p, p.draw(kind))
			})
		}
	}
}

// Targets 1 and 2: Update of an int64 key against Load, Mutex and an 8-byte write.
func BenchmarkUpdate(b *testing.B) {
	both(b, func(b *testing.B, p *population, seq []string) {
		interleave(b, func(from, to int) {
			for i := from; i < to; i++ {
				err := p.e.Update(ctx, seq[i&(sequence-1)], func(tx sessile.Txn) error { return counter.Set(tx, int64(i)) })
				if err != nil {
					b.Fatal(err)
				}
			}
		}, func(from, to int) {
			for i := from; i < to; i++ {
				r, _ := p.m.Load(seq[i&(sequence-1)])
				r.mu.Lock()
				binary.LittleEndian.PutUint64(r.value[:], uint64(i))
				r.mu.Unlock()
			}
		})
	})
}

// Target 9's side of ours: a read-modify-write, against the same by hand.
func BenchmarkAdd(b *testing.B) {
	both(b, func(b *testing.B, p *population, seq []string) {
		interleave(b, func(from, to int) {
			for i := from; i < to; i++ {
				err := p.e.Update(ctx, seq[i&(sequence-1)], func(tx sessile.Txn) error { _, err := sessile.Add(tx, counter, 1); return err })
				if err != nil {
					b.Fatal(err)
				}
			}
		}, func(from, to int) {
			for i := from; i < to; i++ {
				r, _ := p.m.Load(seq[i&(sequence-1)])
				r.mu.Lock()
				binary.LittleEndian.PutUint64(r.value[:], binary.LittleEndian.Uint64(r.value[:])+1)
				r.mu.Unlock()
			}
		})
	})
}

// Target 3: View of an int64 key against Load and a read.
func BenchmarkView(b *testing.B) {
	both(b, func(b *testing.B, p *population, seq []string) {
		sum := int64(0)
		interleave(b, func(from, to int) {
			for i := from; i < to; i++ {
				err := p.e.View(ctx, seq[i&(sequence-1)], func(tx sessile.Txn) error {
					v, err := counter.Get(tx)
					sum += v
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
			}
		}, func(from, to int) {
			for i := from; i < to; i++ {
				r, _ := p.m.Load(seq[i&(sequence-1)])
				sum += int64(binary.LittleEndian.Uint64(r.value[:]))
			}
		})
		runtime.KeepAlive(sum)
	})
}

// The same from all processors at once; a crowd is eight goroutines for each.
func BenchmarkParallel(b *testing.B) {
	for _, kind := range []string{"uniform", "one", "one/crowd"} {
		p := populate(b, 1000, false)
		draw, crowd := strings.CutSuffix(kind, "/crowd")
		seq := p.draw(draw)
		var next atomic.Int64
		parallelism := 1
		if crowd {
			parallelism = 8
		}
		b.Run("Update/"+kind, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(parallelism)
			b.RunParallel(func(pb *testing.PB) {
				i := int(next.Add(1000))
				for ; pb.Next(); i++ {
					_ = p.e.Update(ctx, seq[i&(sequence-1)], func(tx sessile.Txn) error { return counter.Set(tx, int64(i)) })
				}
			})
		})
		b.Run("Update-raw/"+kind, func(b *testing.B) {
			b.SetParallelism(parallelism)
			b.RunParallel(func(pb *testing.PB) {
				i := int(next.Add(1000))
				for ; pb.Next(); i++ {
					r, _ := p.m.Load(seq[i&(sequence-1)])
					r.mu.Lock()
					binary.LittleEndian.PutUint64(r.value[:], uint64(i))
					r.mu.Unlock()
				}
			})
		})
		b.Run("View/"+kind, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(parallelism)
			b.RunParallel(func(pb *testing.PB) {
				i := int(next.Add(1000))
				for ; pb.Next(); i++ {
					_ = p.e.View(ctx, seq[i&(sequence-1)], func(tx sessile.Txn) error { _, err := counter.Get(tx); return err })
				}
			})
		})
	}
}

func openBadger(b *testing.B, sync bool) *badger.DB {
	b.Helper()
	db, err := badger.Open(badger.DefaultOptions(b.TempDir()).WithSyncWrites(sync).WithLogger(nil).WithDetectConflicts(false))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() })
	return db
}

// Target 5: a read-modify-write transaction of Badger, without sync, against
// Update. speedup is by how much Update is faster.
func BenchmarkUpdateAgainstBadger(b *testing.B) {
	n := 1_000_000
	if testing.Short() {
		n = 1000
	}
	p := populate(b, n, false)
	seq := p.draw("zipf")
	db := openBadger(b, false)
	batch := db.NewWriteBatch()
	for _, id := range p.ids {
		if err := batch.Set([]byte(id), make([]byte, payload)); err != nil {
			b.Fatal(err)
		}
	}
	if err := batch.Flush(); err != nil {
		b.Fatal(err)
	}
	b.ResetTimer()
	var own, other time.Duration
	b.ReportAllocs()
	slice := max(1, b.N/8)
	for from := 0; from < b.N; from += slice {
		start := time.Now()
		for i := from; i < min(from+slice, b.N); i++ {
			_ = p.e.Update(ctx, seq[i&(sequence-1)], func(tx sessile.Txn) error { return counter.Set(tx, int64(i)) })
		}
		own += time.Since(start)
		b.StopTimer()
		few := min(slice, 2000)
		start = time.Now()
		for i := from; i < from+few; i++ {
			err := db.Update(func(txn *badger.Txn) error {
				key := []byte(seq[i&(sequence-1)])
				item, err := txn.Get(key)
				if err != nil {
					return err
				}
				v, err := item.ValueCopy(nil)
				if err != nil {
					return err
				}
				binary.LittleEndian.PutUint64(v, uint64(i))
				return txn.Set(key, v)
			})
			if err != nil {
				b.Fatal(err)
			}
		}
		other += time.Since(start) * time.Duration(slice) / time.Duration(few)
		b.StartTimer()
	}
	b.StopTimer()
	b.ReportMetric(float64(other.Nanoseconds())/float64(b.N), "raw-ns/op")
	b.ReportMetric(float64(other)/float64(own), "speedup")
}

// Targets 6 and 7: durable Updates of 512 callers at once, against Badger's own synced
// transaction and against a sequential loop of 512-byte writes with fdatasync.
func BenchmarkDurable(b *testing.B) {
	p := populate(b, 1000, false)
	const waiters = 512
	b.Run("Update", func(b *testing.B) {
		var left atomic.Int64
		left.Store(int64(b.N))
		var wg sync.WaitGroup
		for g := range waiters {
			wg.Go(func() {
				for i := g; left.Add(-1) >= 0; i += waiters {
					err := p.e.Update(ctx, p.ids[i%len(p.ids)], func(tx sessile.Txn) error {
						tx.Durable()
						return counter.Set(tx, int64(i))
					})
					if err != nil {
						b.Error(err)
					}
				}
			})
		}
		wg.Wait()
	})
	b.Run("Badger-synced", func(b *testing.B) {
		db := openBadger(b, true)
		b.ResetTimer()
		for i := range b.N {
			err := db.Update(func(txn *badger.Txn) error {
				return txn.Set([]byte(p.ids[i%len(p.ids)]), make([]byte, payload))
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("fdatasync", func(b *testing.B) {
		f, err := os.Create(filepath.Join(b.TempDir(), "log"))
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		const size = 16 << 20 // written in advance, so that no write extends the file
		if _, err := f.Write(make([]byte, size)); err != nil {
			b.Fatal(err)
		}
		_ = f.Sync()
		block := make([]byte, 512)
		b.ResetTimer()
		for i := range b.N {
			if _, err := f.WriteAt(block, int64(i*512%size)); err != nil {
				b.Fatal(err)
			}
			if err := syscall.Fdatasync(int(f.Fd())); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Views of cold sessions, with and without a busy log beside them: p99 in µs and
// the ratio of the two.
func BenchmarkColdView(b *testing.B) {
	e, err := sessile.Open(sessile.Options{Dir: b.TempDir(), MaxMemory: 1 << 20, CheckpointInterval: time.Second})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	const n = 50_000
	r := rand.New(rand.NewSource(2))
	for i := range n {
		if err := e.CreateID(ctx, fmt.Sprint(i), fill); err != nil {
			b.Fatal(err)
		}
	}
	p99 := func() float64 {
		times := make([]time.Duration, 2000)
		for i := range times {
			start := time.Now()
			if err := e.View(ctx, fmt.Sprint(r.Intn(n)), nil); err != nil {
				b.Fatal(err)
			}
			times[i] = time.Since(start)
		}
		slices.Sort(times)
		return float64(times[len(times)*99/100].Nanoseconds()) / 1e3
	}
	for b.Loop() {
		if err := e.Flush(ctx); err != nil {
			b.Fatal(err)
		}
		idle := p99()
		stop := make(chan struct{})
		var busy sync.WaitGroup
		busy.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				_ = e.Upsert(ctx, fmt.Sprint("busy", i%100), func(tx sessile.Txn) error {
					tx.Durable()
					return counter.Set(tx, int64(i))
				})
			}
		})
		loaded := p99()
		close(stop)
		busy.Wait()
		b.ReportMetric(idle, "idle-p99-µs")
		b.ReportMetric(loaded, "busy-p99-µs")
		b.ReportMetric(loaded/idle, "ratio")
	}
}

// Target 10: heap bytes of a hot session beyond its payload, at a million sessions.
func BenchmarkMemoryPerSession(b *testing.B) {
	n := 1_000_000
	if testing.Short() {
		n = 10_000
	}
	heap := func() float64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	for b.Loop() {
		e, err := sessile.Open(sessile.Options{InMemory: true, MaxMemory: 4 << 30})
		if err != nil {
			b.Fatal(err)
		}
		before := heap()
		for range n {
			if _, err := e.Create(ctx, fill); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric((heap()-before)/float64(n)-payload, "overhead-B/session")
		_ = e.Close()
	}
}
