package sessile_test

import (
	"context"
	"errors"
	"slices"
	"testing/synctest"
	"time"

	"github.com/sessile-go/sessile"
	"pgregory.net/rapid"
)

// The steps of the model that are verbs of the engine.

func (m *machine) update(t *rapid.T) {
	i := m.draw(t, "session")
	x := drawTxn(t)
	verb := rapid.SampledFrom([]string{"update", "upsert", "upsert", "create"}).Draw(t, "verb")
	m.settle(t)
	var next *modelSession
	changed, ran := false, false
	fn := func(tx sessile.Txn) error {
		ran = true
		next, changed = x.apply(t, m, tx, m.now[i])
		return x.finish(t, tx)
	}
	var err error
	switch verb {
	case "update":
		err = guarded(func() error { return m.e.Update(m.ctx, m.id(i), fn) })
	case "upsert":
		err = guarded(func() error { return m.e.Upsert(m.ctx, m.id(i), fn) })
	case "create":
		err = guarded(func() error { return m.e.CreateID(m.ctx, m.id(i), fn) })
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
	case m.refused(t, err, x, map[int]*modelSession{i: next}, map[int]bool{i: changed}):
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
	slots := rapid.SliceOfN(rapid.IntRange(0, m.slots()-1), 1, 4).Draw(t, "sessions")
	x := drawTxn(t)
	x.end = rapid.SampledFrom([]string{"", "", "", "error", "destroy"}).Draw(t, "end of all")
	upsert := rapid.Bool().Draw(t, "upsert")
	m.settle(t)
	ids := make([]string, len(slots))
	missing := false
	for j, i := range slots {
		ids[j] = m.id(i)
		missing = missing || m.now[i] == nil
	}
	next := map[int]*modelSession{}
	changed := map[int]bool{}
	fn := func(txs []sessile.Txn) error {
		for j, i := range slots {
			if next[i] == nil {
				next[i], changed[i] = x.apply(t, m, txs[j], m.now[i])
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
		err = m.e.UpsertMany(m.ctx, ids, fn)
	} else {
		err = m.e.UpdateMany(m.ctx, ids, fn)
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
	case m.refused(t, err, x, next, changed):
		return
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
	slots := rapid.SliceOfN(rapid.IntRange(0, m.slots()-1), 1, 4).Draw(t, "sessions")
	m.settle(t)
	ids := make([]string, len(slots))
	missing := false
	for j, i := range slots {
		ids[j] = m.id(i)
		missing = missing || m.now[i] == nil
	}
	err := m.e.ViewMany(m.ctx, ids, func(txs []sessile.Txn) error {
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
	i := m.draw(t, "session")
	m.settle(t)
	if err := m.e.Delete(m.ctx, m.id(i)); err != nil {
		t.Fatalf("delete: %v", err)
	}
	m.now[i] = nil
	m.durable()
	m.verify(t, i)
}

func (m *machine) touch(t *rapid.T) {
	i := m.draw(t, "session")
	m.settle(t)
	err := m.e.Touch(m.ctx, m.id(i))
	if s := m.now[i]; s == nil {
		if !errors.Is(err, sessile.ErrNotFound) {
			t.Fatalf("touch of no session: %v", err)
		}
	} else if err != nil {
		t.Fatalf("touch: %v", err)
	} else {
		m.touched(i)
	}
}

func (m *machine) touched(i int) {
	n := *m.now[i]
	n.seen = m.time()
	m.now[i] = &n
	m.note()
}

func (m *machine) lists(t *rapid.T) {
	m.settle(t)
	for _, user := range []string{"", "ann", "bob"} {
		var want, got []string
		for i, s := range m.now {
			if s != nil && (user == "" || s.user == user) {
				want = append(want, m.id(i))
			}
		}
		seq := m.e.All(m.ctx)
		if user != "" {
			seq = m.e.ByUser(m.ctx, user)
		}
		for info, err := range seq {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, info.ID)
		}
		slices.Sort(got)
		slices.Sort(want)
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
	except := m.draw(t, "except")
	m.settle(t)
	n, err := m.e.DeleteUser(m.ctx, user, m.id(except))
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
	for range rapid.IntRange(0, 2).Draw(t, "logins") {
		m.doUpsert(t, m.draw(t, "session"), modelTxn{ops: []modelOp{{"user", "", user}}})
		time.Sleep(3 * clockSlack)
	}
	m.settle(t)
	ended, err := m.e.KeepNewest(m.ctx, user, limit)
	if err != nil {
		t.Fatalf("keep newest: %v", err)
	}
	var oldestKept time.Time
	kept := 0
	for i, s := range m.now {
		if s != nil && s.user == user && !slices.Contains(ended, m.id(i)) {
			kept++
			if oldestKept.IsZero() || s.since.Before(oldestKept) {
				oldestKept = s.since
			}
		}
	}
	for i, s := range m.now {
		if s != nil && slices.Contains(ended, m.id(i)) {
			if s.user != user || kept > 0 && s.since.After(oldestKept.Add(clockSlack)) {
				t.Fatalf("%s was ended, of %q, %v; the oldest kept is of %v", m.id(i), s.user, s.since, oldestKept)
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
	for _, text := range m.tokens {
		m.settle(t)
		slot, at := -1, -1
		for i, s := range m.now {
			if s != nil {
				if k := slices.IndexFunc(s.tokens, func(token modelToken) bool { return token.text == text }); k >= 0 {
					slot, at = i, k
				}
			}
		}
		grant, err := m.e.Resolve(m.ctx, text)
		if slot < 0 || !m.good(m.now[slot], at) {
			if !errors.Is(err, sessile.ErrNoToken) && !errors.Is(err, sessile.ErrEnded) && !errors.Is(err, sessile.ErrRenewed) {
				t.Fatalf("a dead token: %+v, %v", grant, err)
			}
			continue
		}
		if want := (sessile.Grant{ID: m.id(slot), Epoch: m.now[slot].epoch}); err != nil || grant != want {
			t.Fatalf("a good token: %+v, %v, want %+v", grant, err, want)
		}
		m.present(t, slot, at)
	}
	if n := len(m.tokens); n > 4 {
		m.tokens = m.tokens[n-4:]
	}
}

// good reports whether a token of a session gives access.
func (m *machine) good(s *modelSession, at int) bool {
	return !s.tokens[at].issued.Before(m.opt.TokensNotBefore) && m.alive(s, at)
}

// alive reports whether no newer token has ended it. settle has seen to it that this is sure.
func (m *machine) alive(s *modelSession, at int) bool {
	died := s.diedAt(at)
	return s.tokens[at].retired.IsZero() && (died.IsZero() || m.time().Before(died))
}

// present notes that a token arrived, which is a commit if it is to end an older one.
func (m *machine) present(t *rapid.T, slot, at int) {
	s := m.now[slot]
	if !s.tokens[at].presented.IsZero() || !slices.ContainsFunc(s.tokens[:at], func(older modelToken) bool {
		return m.alive(s, slices.Index(s.tokens, older))
	}) {
		return
	}
	n := *s
	n.tokens = slices.Clone(s.tokens)
	n.tokens[at].presented = m.time()
	n.logged = n.seen
	n.version = m.observe(t, slot).version
	m.newVersion(t, slot, n.version)
	m.now[slot] = &n
	m.note()
	m.verify(t, slot)
	modelCounts["tokens renewed"]++
}

func (m *machine) wait(t *rapid.T) {
	i := m.draw(t, "session")
	m.settle(t)
	short, cancel := context.WithTimeout(m.ctx, time.Millisecond)
	defer cancel()
	s := m.now[i]
	var after uint64
	if s != nil && rapid.Bool().Draw(t, "current") {
		after = s.version
	}
	info, err := m.e.Wait(short, m.id(i), after)
	switch {
	case s == nil && !errors.Is(err, sessile.ErrNotFound),
		s != nil && after == 0 && (err != nil || info.Version != s.version),
		s != nil && after != 0 && !errors.Is(err, context.DeadlineExceeded):
		t.Fatalf("wait for %s after %d: %+v, %v", m.id(i), after, info, err)
	}
}

func (m *machine) flush(t *rapid.T) {
	m.settle(t)
	if err := m.e.Flush(m.ctx); err != nil {
		t.Fatalf("flush: %v", err)
	}
	m.durable()
}

// woken waits for a version that comes, or an end, meanwhile.
func (m *machine) woken(t *rapid.T) {
	i := m.draw(t, "session")
	m.settle(t)
	s := m.now[i]
	if s == nil {
		return
	}
	type answer struct {
		info sessile.Info
		err  error
	}
	got := make(chan answer, 1)
	short, cancel := context.WithCancel(m.ctx)
	defer cancel()
	go func() {
		info, err := m.e.Wait(short, m.id(i), s.version)
		got <- answer{info, err}
	}()
	answered := func() answer {
		synctest.Wait()
		select {
		case a := <-got:
			return a
		default:
			t.Fatalf("%s: a Wait was not woken", m.id(i))
			return answer{}
		}
	}
	synctest.Wait()
	if rapid.Bool().Draw(t, "end") {
		if err := m.e.Delete(m.ctx, m.id(i)); err != nil {
			t.Fatalf("delete: %v", err)
		}
		m.now[i] = nil
		m.durable()
		if a := answered(); !errors.Is(a.err, sessile.ErrNotFound) {
			t.Fatalf("wait for a session that ends: %+v", a)
		}
		return
	}
	x := modelTxn{ops: []modelOp{{"set", "b", "w"}}}
	var next *modelSession
	changed := false
	err := m.e.Update(m.ctx, m.id(i), func(tx sessile.Txn) error {
		next, changed = x.apply(t, m, tx, m.now[i])
		return nil
	})
	if m.refused(t, err, x, map[int]*modelSession{i: next}, map[int]bool{i: changed}) {
		if err := m.e.Touch(m.ctx, m.id(i)); err != nil { // which wakes nobody
			t.Fatalf("touch: %v", err)
		}
		m.touched(i)
		m.delete(t)
		return
	}
	if err != nil {
		t.Fatalf("update: %v", err)
	}
	m.commit(t, i, x, next, changed)
	m.note()
	if a := answered(); a.err != nil || a.info.Version != m.now[i].version {
		t.Fatalf("wait for a change: %+v, want version %d", a, m.now[i].version)
	}
}

// doUpsert does an Upsert that is to commit, if no bound refuses it.
func (m *machine) doUpsert(t *rapid.T, i int, x modelTxn) {
	m.settle(t)
	var next *modelSession
	changed := false
	err := m.e.Upsert(m.ctx, m.id(i), func(tx sessile.Txn) error {
		next, changed = x.apply(t, m, tx, m.now[i])
		return nil
	})
	if m.refused(t, err, x, map[int]*modelSession{i: next}, map[int]bool{i: changed}) {
		return
	}
	if err != nil {
		t.Fatalf("upsert: %v", err)
	}
	m.commit(t, i, x, next, changed)
	m.note()
}

// renew gives a session a login and a renewed token, and lets the old one's grace pass.
func (m *machine) renew(t *rapid.T) {
	i := m.draw(t, "session")
	for _, kind := range []string{"login", "refresh"} {
		m.doUpsert(t, i, modelTxn{ops: []modelOp{{"token", "", kind}}})
	}
	m.resolve(t)
	if rapid.Bool().Draw(t, "touched") {
		for range 3 { // so that it does not expire meanwhile
			time.Sleep(modelGrace/3 + clockSlack)
			m.settle(t)
			if m.e.Touch(m.ctx, m.id(i)) == nil {
				m.touched(i)
			}
		}
	}
	m.resolve(t)
}

// create makes a session with an id of the engine's.
func (m *machine) create(t *rapid.T) {
	if len(m.made) == modelMade {
		m.update(t)
		return
	}
	x := drawTxn(t)
	m.settle(t)
	var next *modelSession
	id := ""
	err := guarded(func() (err error) {
		id, err = m.e.Create(m.ctx, func(tx sessile.Txn) error {
			next, _ = x.apply(t, m, tx, nil)
			return x.finish(t, tx)
		})
		return err
	})
	if (err != nil) != (id == "") {
		t.Fatalf("create: id %q, %v", id, err)
	}
	i := m.slots()
	m.made = append(m.made, id) // so that the slot has an id
	switch {
	case x.end == "error" || x.end == "panic":
		if !errors.Is(err, errModel) {
			t.Fatalf("the callback's error: %v", err)
		}
		m.made = m.made[:i-modelNamed]
		return
	case err != nil:
		m.made[i-modelNamed] = "never made"
		if !m.refused(t, err, x, map[int]*modelSession{i: next}, map[int]bool{i: true}) {
			t.Fatalf("create: %v", err)
		}
		m.made = m.made[:i-modelNamed]
		return
	}
	modelCounts["ids made"]++
	m.commit(t, i, x, next, true)
	m.note()
	if x.durable || x.end == "destroy" {
		m.durable()
	}
	m.verify(t, i)
}

func (m *machine) viewEmpty(t *rapid.T) {
	err := m.e.ViewEmpty(m.ctx, func(tx sessile.Txn) error {
		if err := tx.Set("a", nil); !errors.Is(err, sessile.ErrReadOnly) {
			t.Fatalf("set in a view: %v", err)
		}
		if _, ok := tx.Get("a"); ok || tx.Len() != 0 || tx.Info() != (sessile.Info{}) {
			t.Fatalf("an empty session is %+v", tx.Info())
		}
		return errModel
	})
	if !errors.Is(err, errModel) {
		t.Fatalf("the callback's error: %v", err)
	}
}
