package sessile_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
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
	token    string
	epoch    uint64
}

const (
	modelSlots      = 5
	modelPackageKey = "\x00c"
	// clockSlack is how much the engine's clock may be behind.
	clockSlack = 6 * time.Millisecond
)

type modelState [modelSlots]*modelSession

func modelID(i int) string { return fmt.Sprint("s", i) }

type machine struct {
	e    *sessile.Engine
	disk *store.Mem
	opt  sessile.Options
	keys [][]byte

	now      modelState
	history  []modelState       // since the last durable state, which is the first
	versions [modelSlots]uint64 // the greatest ever seen
	tokens   []string           // all ever made
}

// modelSteps counts the steps of all runs.
var modelSteps, modelCrashes atomic.Int64

func (m *machine) open(t *rapid.T) {
	st, err := m.disk.Open()
	if err != nil {
		t.Fatal(err)
	}
	m.opt = sessile.Options{
		Dir:                "unused",
		IdleTimeout:        rapid.SampledFrom([]time.Duration{sessile.NoTimeout, time.Second, 4 * time.Second}).Draw(t, "idle"),
		Lifetime:           rapid.SampledFrom([]time.Duration{sessile.NoTimeout, 10 * time.Second}).Draw(t, "lifetime"),
		FlushInterval:      rapid.SampledFrom([]time.Duration{time.Millisecond, 100 * time.Millisecond, time.Minute}).Draw(t, "flush"),
		CheckpointInterval: rapid.SampledFrom([]time.Duration{20 * time.Millisecond, time.Second, time.Hour}).Draw(t, "checkpoint"),
		MaxMemory:          1 << 20,
		CloseTimeout:       time.Second,
		LockTimeout:        time.Second,
		EncryptionKeys:     m.keys,
	}
	if m.e, err = sessile.OpenOn(m.opt, st); err != nil {
		t.Fatalf("open: %v", err)
	}
}

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

// dead reports whether the session has surely expired, and waits where it is not sure.
func (m *machine) dead(s *modelSession, seen time.Time) bool {
	at, some := m.expiry(s, seen)
	if !some || time.Now().Before(at.Add(-3*clockSlack)) {
		return false
	}
	if sure := at.Add(3 * clockSlack); time.Now().Before(sure) {
		time.Sleep(time.Until(sure))
	}
	return true
}

// settle lets the map's sessions expire. The engine may have noticed in any
// order, so each set of the expired may have been ended when it crashes.
func (m *machine) settle(t *rapid.T) {
	var expired []int
	for again := true; again; {
		again = false
		for i, s := range m.now {
			if s != nil && !slices.Contains(expired, i) && m.dead(s, s.seen) {
				if err := m.e.View(ctx, modelID(i), nil); !errors.Is(err, sessile.ErrNotFound) {
					t.Fatalf("%s has not expired: %v", modelID(i), err)
				}
				expired, again = append(expired, i), true
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

// note keeps the state as one that a crash may come back to.
func (m *machine) note() {
	if n := len(m.history); n == 0 || m.history[n-1] != m.now {
		m.history = append(m.history, m.now)
	}
}

func (m *machine) durable() { m.history = append(m.history[:0], m.now) }

// observe reads a session through the engine; nil if there is none.
func (m *machine) observe(t *rapid.T, i int) *modelSession {
	var s *modelSession
	err := m.e.View(ctx, modelID(i), func(tx sessile.Txn) error {
		info := tx.Info()
		s = &modelSession{fields: map[string]string{}, user: info.User, created: info.Created, seen: info.LastSeen, version: info.Version, epoch: tx.Epoch()}
		for k, v := range tx.All() {
			s.fields[k] = string(v)
		}
		if len(s.fields) != tx.Len() {
			t.Fatalf("%s: Len %d of %d keys", modelID(i), tx.Len(), len(s.fields))
		}
		if v, ok := tx.Get(modelPackageKey); ok { // which All and Len leave out
			s.fields[modelPackageKey] = string(v)
		}
		return nil
	})
	if err != nil && !errors.Is(err, sessile.ErrNotFound) {
		t.Fatalf("view %s: %v", modelID(i), err)
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
		t.Fatalf("%s: want %+v, got %+v", modelID(i), m.now[i], got)
	}
}

// A modelTxn is what one callback is to do.
type modelTxn struct {
	ops     []modelOp
	end     string // how the callback ends
	durable bool
	noTouch bool
}

type modelOp struct {
	kind, key, value string
}

func drawTxn(t *rapid.T) (x modelTxn) {
	for range rapid.IntRange(0, 3).Draw(t, "ops") {
		op := modelOp{
			kind: rapid.SampledFrom([]string{"set", "set", "set", "delete", "user", "idle", "deadline", "token"}).Draw(t, "op"),
			key:  rapid.SampledFrom([]string{"a", "b", modelPackageKey, "dd"}).Draw(t, "key"),
		}
		switch op.kind {
		case "set":
			op.value = strings.Repeat("v", rapid.IntRange(0, 3).Draw(t, "length")) + fmt.Sprint(rapid.IntRange(0, 9).Draw(t, "value"))
		case "user":
			op.value = rapid.SampledFrom([]string{"", "ann", "bob"}).Draw(t, "user")
		case "idle":
			op.value = rapid.SampledFrom([]string{"0s", "500ms", "3s"}).Draw(t, "idle")
		case "deadline":
			op.value = rapid.SampledFrom([]string{"", "700ms", "3s"}).Draw(t, "deadline")
		}
		x.ops = append(x.ops, op)
	}
	x.end = rapid.SampledFrom([]string{"", "", "", "", "", "error", "panic", "destroy"}).Draw(t, "end")
	x.durable = rapid.IntRange(0, 3).Draw(t, "durable") == 0
	x.noTouch = rapid.IntRange(0, 4).Draw(t, "noTouch") == 0
	return x
}

var errModel = errors.New("the callback's own error")

// apply does the transaction on the engine's handle and returns the map's next
// state, without version, and whether there is a new one.
func (x modelTxn) apply(t *rapid.T, tx sessile.Txn, base *modelSession) (next *modelSession, changed bool) {
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	next = &modelSession{fields: map[string]string{}, created: time.Now(), seen: time.Now()}
	if base != nil {
		*next = *base
		next.fields = maps.Clone(base.fields)
	} else {
		base, changed = next, true
		base = &modelSession{}
	}
	touched := map[string]bool{} // set in the end
	for _, op := range x.ops {
		switch op.kind {
		case "set":
			must(tx.Set(op.key, []byte(op.value)))
			next.fields[op.key] = op.value
			touched[op.key] = true
		case "delete":
			must(tx.Delete(op.key))
			delete(next.fields, op.key)
			touched[op.key] = false
		case "user":
			must(tx.SetUser(op.value))
			next.user, next.since = op.value, time.Now()
			touched["user"] = op.value != ""
		case "idle":
			d, _ := time.ParseDuration(op.value)
			must(tx.SetIdleTimeout(d))
			next.idle = d
			touched["idle"] = d != 0
		case "deadline":
			next.deadline = time.Time{}
			if op.value != "" {
				d, _ := time.ParseDuration(op.value)
				next.deadline = time.Now().Add(d)
			}
			must(tx.SetDeadline(next.deadline))
			touched["deadline"] = op.value != ""
		case "token":
			token, err := tx.NewToken(sessile.TokenLogin)
			must(err)
			next.token = token
			next.epoch = tx.Epoch()
			touched["token"] = true
		}
		for _, key := range []string{"a", "b", modelPackageKey, "dd"} {
			v, ok := tx.Peek(key)
			want, there := next.fields[key]
			if ok != there || string(v) != want {
				t.Fatalf("the callback sees %q=%q, %v, want %q, %v", key, v, ok, want, there)
			}
		}
	}
	for key, set := range touched {
		_, was := base.fields[key]
		switch key {
		case "user":
			was = base.user != ""
		case "idle":
			was = base.idle != 0
		case "deadline":
			was = !base.deadline.IsZero()
		}
		changed = changed || set || was
	}
	if x.noTouch {
		tx.NoTouch()
	} else {
		next.seen = time.Now()
	}
	if x.durable {
		tx.Durable()
	}
	return next, changed
}

// finish ends the callback as drawn.
func (x modelTxn) finish(t *rapid.T, tx sessile.Txn) error {
	switch x.end {
	case "error":
		return errModel
	case "panic":
		panic(errModel)
	case "destroy":
		if err := tx.Destroy(); err != nil {
			t.Fatal(err)
		}
	}
	return nil
}

// guarded returns the panic of a callback as its error.
func guarded(f func() error) (err error) {
	defer func() {
		if v := recover(); v == errModel {
			err = errModel
		} else if v != nil {
			panic(v)
		}
	}()
	return f()
}

// settleTxn takes over what one callback has done to session i.
func (m *machine) commit(t *rapid.T, i int, x modelTxn, next *modelSession, changed bool) {
	if x.end == "destroy" {
		m.now[i] = nil
		return
	}
	old := m.now[i]
	if changed {
		next.logged = next.seen
		got := m.observe(t, i)
		if got == nil {
			// A deadline in the past ends it with this commit.
			if at, some := m.expiry(next, next.seen); !some || time.Now().Before(at.Add(-3*clockSlack)) {
				t.Fatalf("%s is gone", modelID(i))
			}
			m.now[i] = nil
			return
		}
		if got.version <= m.versions[i] {
			t.Fatalf("%s: version %d after %d", modelID(i), got.version, m.versions[i])
		}
		m.versions[i] = got.version
		next.version = got.version
	} else if old != nil {
		next.version = old.version
	}
	m.now[i] = next
	if next.token != "" && (old == nil || old.token != next.token) {
		m.tokens = append(m.tokens, next.token)
	}
}

func (m *machine) update(t *rapid.T) {
	i := rapid.IntRange(0, modelSlots-1).Draw(t, "session")
	x := drawTxn(t)
	verb := rapid.SampledFrom([]string{"update", "upsert", "upsert", "create"}).Draw(t, "verb")
	m.settle(t)
	var next *modelSession
	changed, ran := false, false
	fn := func(tx sessile.Txn) error {
		ran = true
		next, changed = x.apply(t, tx, m.now[i])
		return x.finish(t, tx)
	}
	var err error
	switch verb {
	case "update":
		err = guarded(func() error { return m.e.Update(ctx, modelID(i), fn) })
	case "upsert":
		err = guarded(func() error { return m.e.Upsert(ctx, modelID(i), fn) })
	case "create":
		err = guarded(func() error { return m.e.CreateID(ctx, modelID(i), fn) })
	}
	switch {
	case verb == "update" && m.now[i] == nil:
		if !errors.Is(err, sessile.ErrNotFound) || ran {
			t.Fatalf("update of no session: %v", err)
		}
		return
	case verb == "create" && m.now[i] != nil:
		if !errors.Is(err, sessile.ErrExists) || ran {
			t.Fatalf("create of a session: %v", err)
		}
		return
	case x.end == "error" || x.end == "panic":
		if !errors.Is(err, errModel) {
			t.Fatalf("the callback's error: %v", err)
		}
		m.verify(t, i)
		return
	case err != nil:
		t.Fatalf("%s: %v", verb, err)
	}
	m.commit(t, i, x, next, changed)
	m.note()
	if x.durable || x.end == "destroy" {
		m.durable()
	}
	m.verify(t, i)
}

func (m *machine) many(t *rapid.T) {
	slots := rapid.SliceOfN(rapid.IntRange(0, modelSlots-1), 1, 4).Draw(t, "sessions")
	x := drawTxn(t)
	x.end = rapid.SampledFrom([]string{"", "", "", "error", "destroy"}).Draw(t, "end of all")
	upsert := rapid.Bool().Draw(t, "upsert")
	m.settle(t)
	ids := make([]string, len(slots))
	missing := false
	for j, i := range slots {
		ids[j] = modelID(i)
		missing = missing || m.now[i] == nil
	}
	next := map[int]*modelSession{}
	changed := map[int]bool{}
	fn := func(txs []sessile.Txn) error {
		for j, i := range slots {
			if next[i] == nil {
				next[i], changed[i] = x.apply(t, txs[j], m.now[i])
			} else if txs[j] != txs[slices.Index(slots, i)] {
				t.Fatal("duplicates do not share a transaction")
			}
		}
		for j := range slots {
			if err := x.finish(t, txs[j]); err != nil {
				return err
			}
		}
		return nil
	}
	var err error
	if upsert {
		err = m.e.UpsertMany(ctx, ids, fn)
	} else {
		err = m.e.UpdateMany(ctx, ids, fn)
	}
	switch {
	case missing && !upsert:
		if !errors.Is(err, sessile.ErrNotFound) || len(next) > 0 {
			t.Fatalf("update of no session: %v", err)
		}
		return
	case x.end == "error":
		if !errors.Is(err, errModel) {
			t.Fatalf("the callback's error: %v", err)
		}
	case err != nil:
		t.Fatalf("many: %v", err)
	default:
		for i, n := range next {
			m.commit(t, i, x, n, changed[i])
		}
		m.note()
		if x.durable || x.end == "destroy" {
			m.durable()
		}
	}
	for _, i := range slots {
		m.verify(t, i)
	}
}

func (m *machine) viewMany(t *rapid.T) {
	slots := rapid.SliceOfN(rapid.IntRange(0, modelSlots-1), 1, 4).Draw(t, "sessions")
	m.settle(t)
	ids := make([]string, len(slots))
	missing := false
	for j, i := range slots {
		ids[j] = modelID(i)
		missing = missing || m.now[i] == nil
	}
	err := m.e.ViewMany(ctx, ids, func(txs []sessile.Txn) error {
		for j, i := range slots {
			if v := txs[j].Info().Version; v != m.now[i].version {
				t.Fatalf("%s: version %d, want %d", ids[j], v, m.now[i].version)
			}
			if err := txs[j].Set("a", nil); !errors.Is(err, sessile.ErrReadOnly) {
				t.Fatalf("set in a view: %v", err)
			}
		}
		return nil
	})
	if missing != errors.Is(err, sessile.ErrNotFound) || !missing && err != nil {
		t.Fatalf("view of many, missing %v: %v", missing, err)
	}
}

func (m *machine) delete(t *rapid.T) {
	i := rapid.IntRange(0, modelSlots-1).Draw(t, "session")
	m.settle(t)
	if err := m.e.Delete(ctx, modelID(i)); err != nil {
		t.Fatalf("delete: %v", err)
	}
	m.now[i] = nil
	m.durable()
	m.verify(t, i)
}

func (m *machine) touch(t *rapid.T) {
	i := rapid.IntRange(0, modelSlots-1).Draw(t, "session")
	m.settle(t)
	err := m.e.Touch(ctx, modelID(i))
	if s := m.now[i]; s == nil {
		if !errors.Is(err, sessile.ErrNotFound) {
			t.Fatalf("touch of no session: %v", err)
		}
	} else if err != nil {
		t.Fatalf("touch: %v", err)
	} else {
		n := *s
		n.seen = time.Now()
		m.now[i] = &n
		m.note()
	}
}

func (m *machine) lists(t *rapid.T) {
	m.settle(t)
	for _, user := range []string{"", "ann", "bob"} {
		var want, got []string
		for i, s := range m.now {
			if s != nil && (user == "" || s.user == user) {
				want = append(want, modelID(i))
			}
		}
		seq := m.e.All(ctx)
		if user != "" {
			seq = m.e.ByUser(ctx, user)
		}
		for info, err := range seq {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, info.ID)
		}
		slices.Sort(got)
		if !slices.Equal(want, got) {
			t.Fatalf("sessions of %q: want %v, got %v", user, want, got)
		}
	}
	live, anonymous := int64(0), int64(0)
	for _, s := range m.now {
		if s != nil {
			live++
			if s.user == "" {
				anonymous++
			}
		}
	}
	if s := m.e.Stats(); s.Sessions < live || s.Anonymous < anonymous {
		t.Fatalf("counts %d and %d, want at least %d and %d", s.Sessions, s.Anonymous, live, anonymous)
	}
}

func (m *machine) deleteUser(t *rapid.T) {
	user := rapid.SampledFrom([]string{"ann", "bob"}).Draw(t, "user")
	except := rapid.IntRange(0, modelSlots-1).Draw(t, "except")
	m.settle(t)
	n, err := m.e.DeleteUser(ctx, user, modelID(except))
	if err != nil {
		t.Fatalf("delete user: %v", err)
	}
	want := 0
	for i, s := range m.now {
		if s != nil && s.user == user && i != except {
			m.now[i] = nil
			want++
		}
	}
	if n != want {
		t.Fatalf("delete user: %d ended, want %d", n, want)
	}
	m.durable()
}

func (m *machine) keepNewest(t *rapid.T) {
	user := rapid.SampledFrom([]string{"ann", "bob"}).Draw(t, "user")
	limit := rapid.IntRange(0, 3).Draw(t, "max")
	m.settle(t)
	ended, err := m.e.KeepNewest(ctx, user, limit)
	if err != nil {
		t.Fatalf("keep newest: %v", err)
	}
	var oldestKept time.Time
	kept := 0
	for i, s := range m.now {
		if s != nil && s.user == user && !slices.Contains(ended, modelID(i)) {
			kept++
			if oldestKept.IsZero() || s.since.Before(oldestKept) {
				oldestKept = s.since
			}
		}
	}
	for i, s := range m.now {
		if s != nil && slices.Contains(ended, modelID(i)) {
			if s.user != user || kept > 0 && s.since.After(oldestKept.Add(clockSlack)) {
				t.Fatalf("%s was ended, of %q, %v; the oldest kept is of %v", modelID(i), s.user, s.since, oldestKept)
			}
			m.now[i] = nil
		}
	}
	if kept > limit || len(ended) > 0 && kept != limit {
		t.Fatalf("%d kept of at most %d, %d ended", kept, limit, len(ended))
	}
	m.durable()
}

func (m *machine) resolve(t *rapid.T) {
	m.settle(t)
	for _, token := range m.tokens {
		grant, err := m.e.Resolve(ctx, token)
		var of *modelSession
		for i, s := range m.now {
			if s != nil && s.token == token {
				of = s
				if err == nil && grant.ID != modelID(i) {
					t.Fatalf("a token of %s is good for %s", modelID(i), grant.ID)
				}
			}
		}
		switch {
		case of != nil && (err != nil || grant.Epoch != of.epoch):
			t.Fatalf("a good token: %+v, %v, want epoch %d", grant, err, of.epoch)
		case of == nil && !errors.Is(err, sessile.ErrNoToken) && !errors.Is(err, sessile.ErrEnded) && !errors.Is(err, sessile.ErrRenewed):
			t.Fatalf("a dead token: %+v, %v", grant, err)
		}
	}
	if n := len(m.tokens); n > 4 {
		m.tokens = m.tokens[n-4:]
	}
}

func (m *machine) wait(t *rapid.T) {
	i := rapid.IntRange(0, modelSlots-1).Draw(t, "session")
	m.settle(t)
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	s := m.now[i]
	var after uint64
	if s != nil && rapid.Bool().Draw(t, "current") {
		after = s.version
	}
	info, err := m.e.Wait(short, modelID(i), after)
	switch {
	case s == nil && !errors.Is(err, sessile.ErrNotFound),
		s != nil && after == 0 && (err != nil || info.Version != s.version),
		s != nil && after != 0 && !errors.Is(err, context.DeadlineExceeded):
		t.Fatalf("wait for %s after %d: %+v, %v", modelID(i), after, info, err)
	}
}

func (m *machine) flush(t *rapid.T) {
	m.settle(t)
	if err := m.e.Flush(ctx); err != nil {
		t.Fatalf("flush: %v", err)
	}
	m.durable()
}

func (m *machine) evict(t *rapid.T) {
	if rapid.Bool().Draw(t, "checkpoint") {
		sessile.Checkpoint(m.e)
	}
	sessile.EvictAll(m.e)
}

func (m *machine) sleep(t *rapid.T) {
	time.Sleep(time.Duration(rapid.SampledFrom([]int{1, 10, 50, 300, 900, 2500}).Draw(t, "ms")) * time.Millisecond)
}

func (m *machine) reopen(t *rapid.T) {
	m.settle(t)
	if err := sessile.Check(m.e); err != nil {
		t.Fatalf("invariants: %v", err)
	}
	if err := m.e.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	m.durable()
	if m.keys != nil && rapid.Bool().Draw(t, "rotate") {
		m.keys = [][]byte{m.keys[1], m.keys[0]}
	}
	m.open(t)
	m.recovered(t)
}

// recovered finds the state that the engine has come back to.
func (m *machine) recovered(t *rapid.T) {
	if err := sessile.CheckDisk(m.e); err != nil {
		t.Fatalf("disk: %v", err)
	}
	var got modelState
	for _, past := range m.history {
		for _, s := range past {
			if s != nil {
				m.dead(s, s.seen) // waits until that is sure
				m.dead(s, s.logged)
			}
		}
	}
	for i := range got {
		got[i] = m.observe(t, i)
	}
	// Several states of the history may look the same, because what has expired is
	// not seen; but its end need not have been logged, and after the next crash, with
	// other options, it may be alive again. So all that fit are kept.
	var fitting []modelState
	found := false
	for _, before := range m.history {
		now := before
		equal := true
		for i, s := range now {
			if s != nil && (m.dead(s, s.seen) || got[i] == nil && m.dead(s, s.logged)) {
				now[i] = nil
			}
			equal = equal && same(now[i], got[i])
			if g := got[i]; equal && g != nil {
				equal = !g.seen.After(s.seen) && !g.seen.Before(s.logged.Add(-clockSlack))
			}
		}
		if !equal {
			continue
		}
		for i, g := range got {
			if g != nil {
				n := *now[i]
				n.seen, n.created, n.logged = g.seen.Add(time.Millisecond), g.created, g.seen.Add(time.Millisecond)
				now[i], before[i] = &n, &n
			}
		}
		m.now, found = now, true
		fitting = append(fitting, before)
	}
	if found {
		m.history = fitting
		m.note()
		return
	}
	for j, s := range m.history {
		for i := range s {
			t.Logf("history %d %s: %+v", j, modelID(i), s[i])
		}
	}
	for i, s := range got {
		t.Logf("recovered %s: %+v", modelID(i), s)
	}
	t.Fatal("what was recovered is no state of the history")
}

// crash ends the process, so to speak, with any prefix of the pending batches on the disk.
func (m *machine) crash(t *rapid.T) {
	modelCrashes.Add(1)
	m.settle(t)
	m.disk.Crash(rapid.IntRange(0, 3).Draw(t, "keep"))
	_ = m.e.Close()
	if rapid.IntRange(0, 4).Draw(t, "crash while recovering") == 0 {
		at := rapid.IntRange(1, 4).Draw(t, "batch")
		m.disk.SetFault(func([]store.Op) store.Fault {
			if at--; at < 0 {
				return store.FaultFail
			}
			return store.FaultNone
		})
		if st, err := m.disk.Open(); err != nil {
			t.Fatal(err)
		} else if e, err := sessile.OpenOn(m.opt, st); err == nil {
			m.disk.Crash(0)
			_ = e.Close()
		}
		m.disk.Crash(rapid.IntRange(0, 1).Draw(t, "keep"))
	}
	m.open(t)
	m.recovered(t)
}

// stall lets the disk take nothing for a while, or until a crash.
func (m *machine) stall(t *rapid.T) {
	m.disk.SetFault(func([]store.Op) store.Fault { return store.FaultStall })
	for range rapid.IntRange(0, 3).Draw(t, "steps") {
		m.stalledStep(t)
	}
	if rapid.Bool().Draw(t, "crash") {
		m.crash(t)
		return
	}
	m.disk.SetFault(nil)
	m.disk.Resume()
	synctest.Wait()
}

// stalledStep is an update that asks for no durability.
func (m *machine) stalledStep(t *rapid.T) {
	i := rapid.IntRange(0, modelSlots-1).Draw(t, "session")
	x := drawTxn(t)
	x.durable, x.end = false, ""
	m.settle(t)
	var next *modelSession
	changed := false
	err := m.e.Upsert(ctx, modelID(i), func(tx sessile.Txn) error {
		next, changed = x.apply(t, tx, m.now[i])
		return nil
	})
	if err != nil {
		t.Fatalf("upsert on a stalled disk: %v", err)
	}
	m.commit(t, i, x, next, changed)
	m.note()
	if rapid.Bool().Draw(t, "sleep") {
		time.Sleep(200 * time.Millisecond)
		m.settle(t)
	}
	m.verify(t, i)
}

// fail makes the disk fail for good.
func (m *machine) fail(t *rapid.T) {
	m.settle(t)
	fault := rapid.SampledFrom([]store.Fault{store.FaultFail, store.FaultApplied}).Draw(t, "fault")
	m.disk.SetFault(func([]store.Op) store.Fault { return fault })
	x := modelTxn{ops: []modelOp{{"set", "a", "failing"}}, durable: true}
	i := rapid.IntRange(0, modelSlots-1).Draw(t, "session")
	var next *modelSession
	changed := false
	err := m.e.Upsert(ctx, modelID(i), func(tx sessile.Txn) error {
		next, changed = x.apply(t, tx, m.now[i])
		return nil
	})
	switch {
	case errors.Is(err, sessile.ErrDurabilityUnknown) && errors.Is(err, sessile.ErrPersistence):
		m.commit(t, i, x, next, changed)
		m.note()
		m.verify(t, i)
	case errors.Is(err, sessile.ErrPersistence): // it had failed before the commit
	default:
		t.Fatalf("durable update on a failed disk: %v", err)
	}
	if err := m.e.Update(ctx, modelID(i), func(tx sessile.Txn) error { return tx.Set("a", nil) }); !errors.Is(err, sessile.ErrPersistence) {
		if m.now[i] != nil || !errors.Is(err, sessile.ErrNotFound) {
			t.Fatalf("update on a failed engine: %v", err)
		}
	}
	if err := m.e.Flush(ctx); !errors.Is(err, sessile.ErrPersistence) {
		t.Fatalf("flush on a failed engine: %v", err)
	}
	m.crash(t)
}

// full makes the disk full for a while.
func (m *machine) full(t *rapid.T) {
	m.settle(t)
	m.disk.SetFault(func([]store.Op) store.Fault { return store.FaultFull })
	i := rapid.IntRange(0, modelSlots-1).Draw(t, "session")
	err := m.e.Delete(ctx, modelID(i))
	if err != nil && !errors.Is(err, sessile.ErrDiskFull) {
		t.Fatalf("delete on a full disk: %v", err)
	}
	m.now[i] = nil
	m.note()
	m.verify(t, i)
	if rapid.Bool().Draw(t, "crash") {
		m.crash(t)
		return
	}
	m.disk.SetFault(nil)
	time.Sleep(3 * time.Second)
	m.flush(t)
}

// bubbleTB is a test without Deadline, which a bubble forbids and rapid would call.
type bubbleTB struct{ testing.TB }

func TestModel(t *testing.T) {
	c := newCampaign(t, 1, "steps", "crashes")
	given := false // the seed and length of rapid's own flags
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
		steps, crashes := modelSteps.Load(), modelCrashes.Load()
		synctest.Test(t, func(t *testing.T) { rapid.Check(bubbleTB{t}, modelRun) })
		c.add("steps", modelSteps.Load()-steps)
		c.add("crashes", modelCrashes.Load()-crashes)
	}
}

// modelRun is one life of a machine.
func modelRun(t *rapid.T) {
	m := &machine{disk: store.NewMem()}
	if rapid.Bool().Draw(t, "encrypted") {
		m.keys = [][]byte{[]byte(strings.Repeat("k", 32)), []byte(strings.Repeat("l", 32))}
	}
	m.open(t)
	defer func() {
		m.disk.Crash(0)
		_ = m.e.Close()
	}()
	m.durable()
	actions := map[string]func(*rapid.T){
		"many": m.many, "viewMany": m.viewMany, "delete": m.delete, "touch": m.touch, "lists": m.lists,
		"deleteUser": m.deleteUser, "keepNewest": m.keepNewest, "resolve": m.resolve, "wait": m.wait,
		"flush": m.flush, "evict": m.evict, "sleep": m.sleep, "reopen": m.reopen, "crash": m.crash,
		"stall": m.stall, "fail": m.fail, "full": m.full,
	}
	for i := range 8 {
		actions[fmt.Sprint("update", i)] = m.update
	}
	for name, action := range actions {
		actions[name] = func(t *rapid.T) { modelSteps.Add(1); action(t) }
	}
	t.Repeat(actions)
}
