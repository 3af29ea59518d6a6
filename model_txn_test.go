package sessile_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sessile-go/sessile"
	"pgregory.net/rapid"
)

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

var modelKeys = []string{"a", "b", modelPackageKey, "dd"}

func drawTxn(t *rapid.T) (x modelTxn) {
	for range rapid.IntRange(0, 3).Draw(t, "ops") {
		op := modelOp{
			kind: rapid.SampledFrom([]string{"set", "set", "set", "delete", "user", "idle", "deadline", "token"}).Draw(t, "op"),
			key:  rapid.SampledFrom(modelKeys).Draw(t, "key"),
		}
		switch op.kind {
		case "set":
			op.value = strings.Repeat("v", rapid.SampledFrom([]int{0, 1, 2, 3, 500}).Draw(t, "length")) + fmt.Sprint(rapid.IntRange(0, 9).Draw(t, "value"))
		case "user":
			op.value = rapid.SampledFrom([]string{"", "ann", "bob"}).Draw(t, "user")
		case "idle":
			op.value = rapid.SampledFrom([]string{"0s", "500ms", "3s"}).Draw(t, "idle")
		case "deadline":
			op.value = rapid.SampledFrom([]string{"", "700ms", "3s"}).Draw(t, "deadline")
		case "token":
			op.value = rapid.SampledFrom([]string{"login", "refresh", "refresh"}).Draw(t, "token")
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
func (x modelTxn) apply(t *rapid.T, m *machine, tx sessile.Txn, base *modelSession) (next *modelSession, changed bool) {
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	now := m.time()
	next = &modelSession{fields: map[string]string{}, created: now, seen: now}
	created := base == nil
	if created {
		base = &modelSession{}
	} else {
		*next = *base
		next.fields = maps.Clone(base.fields)
	}
	touched := map[string]bool{} // whether it is there in the end
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
			next.user, next.since = op.value, now
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
				next.deadline = now.Add(d)
			}
			must(tx.SetDeadline(next.deadline))
			touched["deadline"] = op.value != ""
		case "token":
			kind := sessile.TokenLogin
			if op.value == "refresh" {
				kind = sessile.TokenRefresh
			}
			token, err := tx.NewToken(kind)
			must(err)
			next.issue(kind, token, tx.TokenTime())
			if next.epoch != tx.Epoch() {
				t.Fatalf("epoch %d, want %d", tx.Epoch(), next.epoch)
			}
			touched["token"] = true
		}
		for _, key := range modelKeys {
			v, ok := tx.Peek(key)
			want, there := next.fields[key]
			if ok != there || string(v) != want {
				t.Fatalf("the callback sees %q=%q, %v, want %q, %v", key, v, ok, want, there)
			}
		}
	}
	changes := 0
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
		if set || was {
			changes++
		}
	}
	if n := tx.Changes(); n != changes {
		t.Fatalf("%d changes, want %d", n, changes)
	}
	if x.noTouch {
		tx.NoTouch()
	} else {
		next.seen = now
	}
	if x.durable {
		tx.Durable()
	}
	return next, created || changes > 0
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

// refused reports whether the error is that of a bound which the next states would exceed, and
// fails the test if it should be and is not.
func (m *machine) refused(t *rapid.T, err error, x modelTxn, next map[int]*modelSession, changed map[int]bool) bool {
	if x.end != "" {
		return false
	}
	anonymous := 0
	for _, s := range m.now {
		if s != nil && s.user == "" {
			anonymous++
		}
	}
	slots := slices.SortedFunc(maps.Keys(next), func(a, b int) int { return strings.Compare(m.id(a), m.id(b)) })
	large, many := false, false
	for _, i := range slots {
		if !changed[i] {
			continue
		}
		size := 0
		for k, v := range next[i].fields {
			size += 4 + len(k) + len(v)
		}
		// Tokens, user and timeouts count as well.
		large = large || m.opt.MaxSessionSize > 0 && size+1000 > m.opt.MaxSessionSize
		by := 0
		if next[i].user == "" {
			by++
		}
		if old := m.now[i]; old != nil && old.user == "" {
			by--
		}
		many = many || by > 0 && m.opt.MaxAnonymous > 0 && anonymous+by > m.opt.MaxAnonymous
		anonymous += by
	}
	switch {
	case large && errors.Is(err, sessile.ErrTooLarge), many && errors.Is(err, sessile.ErrTooMany):
		modelCounts["refused"]++
		for _, i := range slots {
			m.verify(t, i)
		}
		return true
	case many:
		t.Fatalf("a session beyond MaxAnonymous: %v", err)
	}
	return false
}

// commit takes over what one callback has done to session i.
func (m *machine) commit(t *rapid.T, i int, x modelTxn, next *modelSession, changed bool) {
	if x.end == "destroy" {
		m.now[i] = nil
		return
	}
	if changed {
		next.logged = next.seen
		got := m.observe(t, i)
		if got == nil {
			// A deadline in the past ends it with this commit.
			if at, some := m.expiry(next, next.seen); !some || m.time().Before(at.Add(-3*clockSlack)) {
				t.Fatalf("%s is gone", m.id(i))
			}
			m.now[i] = nil
			return
		}
		m.newVersion(t, i, got.version)
		next.version = got.version
	} else if old := m.now[i]; old != nil {
		next.version = old.version
	}
	m.now[i] = next
	for _, token := range next.tokens {
		if !slices.Contains(m.tokens, token.text) {
			m.tokens = append(m.tokens, token.text)
		}
	}
}

// newVersion checks that a version was never there before.
func (m *machine) newVersion(t *rapid.T, i int, version uint64) {
	if version <= m.versions[i] {
		t.Fatalf("%s: version %d after %d", m.id(i), version, m.versions[i])
	}
	m.versions[i] = version
}

// A modelToken is one token of a session. The slice of them is not changed, but replaced.
type modelToken struct {
	text      string
	issued    time.Time
	presented time.Time // or up to clockSlack earlier; zero: not yet
	retired   time.Time // by a login; zero: not
}

const (
	modelGrace  = 5 * time.Second
	modelMemory = time.Minute
	modelTokens = 8
)

// diedAt returns when renewed tokens end the token i; zero: not yet known.
func (s *modelSession) diedAt(i int) (at time.Time) {
	for _, newer := range s.tokens[i+1:] {
		if end := newer.presented.Add(modelGrace); !newer.presented.IsZero() && (at.IsZero() || end.Before(at)) {
			at = end
		}
	}
	return at
}

// issue adds a token. What is dead for long, and the oldest beyond a bound, go.
func (s *modelSession) issue(kind sessile.TokenKind, text string, now time.Time) {
	s.tokens = slices.Clone(s.tokens)
	if kind == sessile.TokenLogin || s.epoch == 0 {
		s.epoch++
		for i := range s.tokens {
			if s.tokens[i].retired.IsZero() {
				s.tokens[i].retired = now
			}
		}
	}
	s.tokens = append(s.tokens, modelToken{text: text, issued: now})
	var kept []modelToken
	for i, token := range s.tokens {
		died := s.diedAt(i)
		if died.IsZero() || !token.retired.IsZero() && token.retired.Before(died) {
			died = token.retired
		}
		if died.IsZero() || now.Before(died.Add(modelMemory)) {
			kept = append(kept, token)
		}
	}
	s.tokens = kept[max(0, len(kept)-modelTokens):]
}
