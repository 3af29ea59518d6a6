package sessile_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/internal/store"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The engine against a map. rapid draws steps; both do them; what can be seen of
// them must be equal after each. The engine stands on a disk in memory that can
// crash, and in a bubble whose clock the steps move, so a failure is replayed by its seed.
//
// After a crash the engine must show one of the states that the map went
// through, all sessions of it from the same moment, and none older than the last durable one
// (invariants 1, 2, 4 and 5).

// A modelSession is one session of the map. It is not changed, but replaced.
type modelSession struct {
	fields   map[string]string
	user     string
	since    time.Time // of the user
	idle     time.Duration
	deadline time.Time
	created  time.Time
	seen     time.Time // or up to clockSlack earlier
	logged   time.Time // seen at the last commit: touches since may be lost
	version  uint64
	tokens   []modelToken
	epoch    uint64
}

const (
	modelNamed      = 5 // sessions with ids of ours
	modelMade       = 2 // and at most so many with ids that Create made
	modelPackageKey = "\x00c"
	// clockSlack is how much the engine's clock may be behind.
	clockSlack = 6 * time.Millisecond
)

type modelState [modelNamed + modelMade]*modelSession

type machine struct {
	ctx  context.Context // ends long after everything should have
	e    *sessile.Engine
	disk *store.Mem // nil: in memory
	opt  sessile.Options
	keys [][]byte

	made     []string // ids that Create made
	now      modelState
	history  []modelState                   // since the last durable state, which is the first
	versions [modelNamed + modelMade]uint64 // the greatest ever seen
	tokens   []string                       // all ever made
}

// modelCounts is what all runs have done.
var modelCounts = map[string]int64{}

// slots is how many sessions have an id.
func (m *machine) slots() int { return modelNamed + len(m.made) }

// id returns the id of a slot.
func (m *machine) id(i int) string {
	if i < modelNamed {
		return fmt.Sprint("s", i)
	}
	return m.made[i-modelNamed]
}

func (m *machine) draw(t *rapid.T, label string) int {
	return rapid.IntRange(0, m.slots()-1).Draw(t, label)
}

func (m *machine) open(t *rapid.T) {
	m.opt = sessile.Options{
		Dir:                "unused",
		IdleTimeout:        rapid.SampledFrom([]time.Duration{sessile.NoTimeout, time.Second, 4 * time.Second}).Draw(t, "idle"),
		Lifetime:           rapid.SampledFrom([]time.Duration{sessile.NoTimeout, 10 * time.Second}).Draw(t, "lifetime"),
		FlushInterval:      rapid.SampledFrom([]time.Duration{time.Millisecond, 100 * time.Millisecond, time.Minute}).Draw(t, "flush"),
		CheckpointInterval: rapid.SampledFrom([]time.Duration{20 * time.Millisecond, time.Second, time.Hour}).Draw(t, "checkpoint"),
		MaxAnonymous:       rapid.SampledFrom([]int{0, 0, 3}).Draw(t, "anonymous"),
		MaxSessionSize:     rapid.SampledFrom([]int{0, 0, 1 << 10}).Draw(t, "size"),
		MaxMemory:          1 << 20,
		CloseTimeout:       time.Second,
		LockTimeout:        time.Second,
		EncryptionKeys:     m.keys,
	}
	if m.e != nil && rapid.IntRange(0, 5).Draw(t, "older tokens are dead") == 0 {
		m.opt.TokensNotBefore = sessile.EngineTime(m.e).Add(time.Millisecond)
	}
	if m.disk == nil {
		m.opt.Dir, m.opt.InMemory = "", true
		var err error
		if m.e, err = sessile.Open(m.opt); err != nil {
			t.Fatalf("open: %v", err)
		}
		return
	}
	st, err := m.disk.Open()
	if err != nil {
		t.Fatal(err)
	}
	if m.e, err = sessile.OpenOn(m.opt, st); err != nil {
		t.Fatalf("open: %v", err)
	}
}

// time is the engine's, which differs from the wall clock's when that was set back.
func (m *machine) time() time.Time { return sessile.EngineTime(m.e) }

// expiry is when the session ends, or at most clockSlack and a millisecond earlier.
func (m *machine) expiry(s *modelSession, seen time.Time) (at time.Time, some bool) {
	switch {
	case !s.deadline.IsZero():
		at, some = s.deadline, true
	case m.opt.Lifetime > 0:
		at, some = s.created.Add(m.opt.Lifetime), true
	}
	idle := m.opt.IdleTimeout
	if s.idle != 0 {
		idle = s.idle
	}
	if idle > 0 {
		if end := seen.Add(idle); !some || end.Before(at) {
			at, some = end, true
		}
	}
	return at, some
}

// passed reports whether a moment has surely passed, and waits where it is not sure.
func (m *machine) passed(at time.Time) bool {
	if m.time().Before(at.Add(-3 * clockSlack)) {
		return false
	}
	if sure := at.Add(3 * clockSlack); m.time().Before(sure) {
		time.Sleep(sure.Sub(m.time()))
	}
	return true
}

// dead reports whether the session has surely expired.
func (m *machine) dead(s *modelSession, seen time.Time) bool {
	at, some := m.expiry(s, seen)
	return some && m.passed(at)
}

// settle lets the map's sessions expire. The engine may have noticed in any
// order, so each set of the expired may have been ended when it crashes.
func (m *machine) settle(t *rapid.T) {
	var expired []int
	for again := true; again; {
		again = m.settleTokens()
		for i, s := range m.now {
			if s != nil && !slices.Contains(expired, i) && m.dead(s, s.seen) {
				if err := m.e.View(m.ctx, m.id(i), nil); !errors.Is(err, sessile.ErrNotFound) {
					t.Fatalf("%s has not expired: %v", m.id(i), err)
				}
				expired, again = append(expired, i), true
				modelCounts["expirations"]++
			}
		}
	}
	before := m.now
	for set := 1; set < 1<<len(expired); set++ {
		m.now = before
		for j, i := range expired {
			if set>>j&1 != 0 {
				m.now[i] = nil
			}
		}
		m.note()
	}
}

// settleTokens waits until it is sure which tokens are dead, and which for long, and
// reports whether it had to.
func (m *machine) settleTokens() bool {
	before := m.time()
	for _, s := range m.now {
		if s == nil {
			continue
		}
		for i := range s.tokens {
			if died := s.diedAt(i); !died.IsZero() {
				m.passed(died)
				m.passed(died.Add(modelMemory))
			}
			if died := s.tokens[i].retired; !died.IsZero() {
				m.passed(died.Add(modelMemory))
			}
		}
	}
	return m.time().After(before)
}

// note keeps the state as one that a crash may come back to.
func (m *machine) note() {
	if n := len(m.history); n == 0 || m.history[n-1] != m.now {
		m.history = append(m.history, m.now)
	}
}

func (m *machine) durable() { m.history = append(m.history[:0], m.now) }

// observe reads a session through the engine; nil if there is none.
func (m *machine) observe(t *rapid.T, i int) *modelSession {
	if i >= m.slots() {
		return nil
	}
	var s *modelSession
	err := m.e.View(m.ctx, m.id(i), func(tx sessile.Txn) error {
		info := tx.Info()
		s = &modelSession{fields: map[string]string{}, user: info.User, created: info.Created, seen: info.LastSeen, version: info.Version, epoch: tx.Epoch()}
		last := ""
		for k, v := range tx.All() {
			if k <= last {
				t.Fatalf("%s: %q after %q", m.id(i), k, last)
			}
			last = k
			s.fields[k] = string(v)
		}
		if len(s.fields) != tx.Len() {
			t.Fatalf("%s: Len %d of %d keys", m.id(i), tx.Len(), len(s.fields))
		}
		if v, ok := tx.Get(modelPackageKey); ok { // which All and Len leave out
			s.fields[modelPackageKey] = string(v)
		}
		return nil
	})
	if err != nil && !errors.Is(err, sessile.ErrNotFound) {
		t.Fatalf("view %s: %v", m.id(i), err)
	}
	return s
}

// same compares what can be seen of two states.
func same(a, b *modelSession) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.version == b.version && a.user == b.user && a.epoch == b.epoch && maps.Equal(a.fields, b.fields)
}

// verify compares one session.
func (m *machine) verify(t *rapid.T, i int) {
	if got := m.observe(t, i); !same(m.now[i], got) {
		t.Fatalf("%s: want %+v, got %+v", m.id(i), m.now[i], got)
	}
}

// bubbleTB is a test without Deadline, which a bubble forbids and rapid would call.
type bubbleTB struct{ testing.TB }

// modelFaults are what a long run must meet.
var modelFaults = []string{
	"crashes", "crashes while recovering", "failed writes", "failed but applied", "full disks", "stalls", "clock moves",
	"reopenings", "expirations", "refused", "ids made", "tokens renewed",
}

func TestModel(t *testing.T) {
	c := newCampaign(t, 1, append([]string{"steps"}, modelFaults...)...)
	given := false // rapid's own flags
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.seed" || f.Name == "rapid.checks" })
	for {
		seed, more := c.next()
		if !more {
			break
		}
		if !given {
			require.NoError(t, flag.Set("rapid.seed", fmt.Sprint(uint64(seed))))
			require.NoError(t, flag.Set("rapid.checks", "100"))
		}
		clear(modelCounts)
		synctest.Test(t, func(t *testing.T) { rapid.Check(bubbleTB{t}, modelRun) })
		for name, n := range modelCounts {
			c.add(name, n)
		}
	}
	if c.get("steps") > 50_000 {
		c.requireAll(modelFaults...)
	}
}

// modelRun is one life of a machine.
func modelRun(t *rapid.T) {
	long, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	m := &machine{ctx: long}
	if rapid.IntRange(0, 9).Draw(t, "in memory") > 0 {
		m.disk = store.NewMem()
	}
	if rapid.Bool().Draw(t, "encrypted") && m.disk != nil {
		m.keys = [][]byte{[]byte(strings.Repeat("k", 32)), []byte(strings.Repeat("l", 32))}
	}
	m.open(t)
	defer func() {
		if m.disk != nil {
			m.disk.Crash(0)
		}
		_ = m.e.Close()
	}()
	m.durable()
	actions := map[string]func(*rapid.T){
		"create": m.create, "many": m.many, "viewMany": m.viewMany, "viewEmpty": m.viewEmpty, "delete": m.delete, "touch": m.touch, "lists": m.lists,
		"renew": m.renew, "deleteUser": m.deleteUser, "keepNewest": m.keepNewest, "resolve": m.resolve, "wait": m.wait, "woken": m.woken,
		"flush": m.flush, "sleep": m.sleep,
	}
	if m.disk != nil {
		maps.Copy(actions, map[string]func(*rapid.T){
			"evict": m.evict, "reopen": m.reopen, "crash": m.crash, "stall": m.stall, "fail": m.fail, "full": m.full,
		})
	}
	for i := range 8 {
		actions[fmt.Sprint("update", i)] = m.update
	}
	for name, action := range actions {
		actions[name] = func(t *rapid.T) { modelCounts["steps"]++; action(t) }
	}
	t.Repeat(actions)
}
