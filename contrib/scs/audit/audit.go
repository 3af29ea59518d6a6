// Package audit counts what an application on scs loses today, in production, before anything is changed:
//
//	a := audit.Wrap(sm, audit.Options{Logger: slog.Default()})
//	…
//	a.Stats() // lost updates, revived sessions
//
// It stands around the store and the codec that the manager has and passes everything through: the same data, results and errors, and the
// optional interfaces that the store has. It sees what passes through this process, and where it cannot be
// certain it counts nothing, so the figures are lower bounds. BenchmarkRequest of contrib/scs states the cost.
//
// It is for stores that write whole sessions, as scs's own do. Around this module's Store, which applies changes only, it would report
// losses that do not happen.
package audit

import (
	"context"
	"iter"
	"maps"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/sessile-go/sessile/contrib/latesave"
	record "github.com/sessile-go/sessile/contrib/latesave/audit"
)

// Options configure an audit.
type Options = record.Options

// Stats are what was counted.
type Stats = record.Stats

// A Recorder has the Stats.
type Recorder = record.Recorder

// Wrap puts an audit around the manager's Store and Codec. Call it before the manager is used.
func Wrap(sm *scs.SessionManager, opt Options) *Recorder {
	w := &watched{inner: sm.Store, codec: sm.Codec, rec: record.NewRecorder(opt)}
	sm.Store, sm.Codec = w.store(), codec{w}
	return w.rec
}

// watched follows a request through the four calls that scs makes for it. From Find to Decode, and from Encode to Commit, it knows
// the request by the bytes that are handed over, which are copies of its own; from Decode to Encode, by the map of values,
// which scs keeps.
type watched struct {
	inner scs.Store
	codec scs.Codec
	rec   *Recorder

	finds latesave.WeakMap[byte, *request]
	maps  latesave.WeakMap[byte, *request]
	saves latesave.WeakMap[byte, *save]
}

// A request is what one request has loaded. scs does not use it from two goroutines at once.
type request struct {
	token string // "" when it has found no session
	at    uint64
	load  *record.Load
}

type save struct {
	request *request
	values  record.Values
}

// own returns a copy that nothing else points to, with memory of its own.
func own(b []byte) []byte {
	return append(make([]byte, 0, max(len(b), 32)), b...)
}

func (w *watched) found(token string, b []byte, found bool, err error) ([]byte, bool, error) {
	if err != nil || !found || len(b) == 0 {
		return b, found, err
	}
	return w.loaded(token, b), true, nil
}

func (w *watched) loaded(token string, b []byte) []byte {
	b = own(b)
	w.finds.Store(&b[0], &request{token: token, at: w.rec.Now()})
	return b
}

func (w *watched) loadedAll(all map[string][]byte, err error) (map[string][]byte, error) {
	if err != nil || all == nil {
		return all, err
	}
	all = maps.Clone(all)
	for token, b := range all {
		if len(b) > 0 {
			all[token] = w.loaded(token, b)
		}
	}
	return all, nil
}

func (w *watched) commit(token string, b []byte, commit func() error) error {
	var sv *save
	if len(b) > 0 {
		sv = w.saves.Take(&b[0])
	}
	seq := w.rec.Saving()
	if err := commit(); err != nil {
		return err
	}
	if sv == nil {
		w.rec.Untracked()
		return nil
	}
	r := sv.request
	if r.token != token { // a new session, or one that RenewToken has moved
		r.token, r.load = token, nil
	}
	r.load = w.rec.Saved(seq, token, r.load, sv.values)
	return nil
}

func (w *watched) deleted(token string, err error) error {
	if err == nil && token != "" {
		w.rec.Deleted(token)
	}
	return err
}

// codec is the codec side of watched.
type codec struct{ w *watched }

func (c codec) Decode(b []byte) (time.Time, map[string]any, error) {
	deadline, values, err := c.w.codec.Decode(b)
	if err != nil || values == nil {
		return deadline, values, err
	}
	var r *request
	if len(b) > 0 {
		r = c.w.finds.Take(&b[0])
	}
	if r == nil {
		c.w.rec.Untracked()
		return deadline, values, nil
	}
	r.load = c.w.rec.Loaded(r.at, record.Digest(all(values)))
	c.w.maps.Store(latesave.MapKey(values), r)
	return deadline, values, nil
}

func (c codec) Encode(deadline time.Time, values map[string]any) ([]byte, error) {
	b, err := c.w.codec.Encode(deadline, values)
	if err != nil || len(b) == 0 || values == nil {
		return b, err
	}
	r := c.w.maps.Load(latesave.MapKey(values))
	if r == nil {
		r = new(request)
		c.w.maps.Store(latesave.MapKey(values), r)
	}
	b = own(b)
	c.w.saves.Store(&b[0], &save{r, record.Digest(all(values))})
	return b, nil
}

func all(values map[string]any) iter.Seq2[string, any] { return maps.All(values) }

// The store side. What scs does with a store depends on the methods that it has, so there is a wrapper for each combination.

func (w *watched) store() scs.Store {
	_, find := w.inner.(finder)
	_, commit := w.inner.(committer)
	_, del := w.inner.(deleter)
	_, all := w.inner.(scs.IterableStore)
	_, allCtx := w.inner.(scs.IterableCtxStore)
	p, c := plain{w}, withCtx{w}
	ctx := find || commit || del
	switch {
	case ctx && all && allCtx:
		return struct {
			plain
			withCtx
			iterable
			iterableCtx
		}{p, c, iterable{w}, iterableCtx{w}}
	case ctx && all:
		return struct {
			plain
			withCtx
			iterable
		}{p, c, iterable{w}}
	case ctx && allCtx:
		return struct {
			plain
			withCtx
			iterableCtx
		}{p, c, iterableCtx{w}}
	case ctx:
		return struct {
			plain
			withCtx
		}{p, c}
	case all && allCtx:
		return struct {
			plain
			iterable
			iterableCtx
		}{p, iterable{w}, iterableCtx{w}}
	case all:
		return struct {
			plain
			iterable
		}{p, iterable{w}}
	case allCtx:
		return struct {
			plain
			iterableCtx
		}{p, iterableCtx{w}}
	}
	return p
}

// The methods with a context, each of which scs looks for by itself.
type (
	finder interface {
		FindCtx(ctx context.Context, token string) ([]byte, bool, error)
	}
	committer interface {
		CommitCtx(ctx context.Context, token string, b []byte, expiry time.Time) error
	}
	deleter interface {
		DeleteCtx(ctx context.Context, token string) error
	}
)

type plain struct{ w *watched }

func (p plain) Find(token string) ([]byte, bool, error) {
	b, ok, err := p.w.inner.Find(token)
	return p.w.found(token, b, ok, err)
}

func (p plain) Commit(token string, b []byte, expiry time.Time) error {
	return p.w.commit(token, b, func() error { return p.w.inner.Commit(token, b, expiry) })
}

func (p plain) Delete(token string) error { return p.w.deleted(token, p.w.inner.Delete(token)) }

// withCtx falls back on the method without a context where the store has no other, as scs does.
type withCtx struct{ w *watched }

func (c withCtx) FindCtx(ctx context.Context, token string) ([]byte, bool, error) {
	f, ok := c.w.inner.(finder)
	if !ok {
		return plain(c).Find(token)
	}
	b, found, err := f.FindCtx(ctx, token)
	return c.w.found(token, b, found, err)
}

func (c withCtx) CommitCtx(ctx context.Context, token string, b []byte, expiry time.Time) error {
	f, ok := c.w.inner.(committer)
	if !ok {
		return plain(c).Commit(token, b, expiry)
	}
	return c.w.commit(token, b, func() error { return f.CommitCtx(ctx, token, b, expiry) })
}

func (c withCtx) DeleteCtx(ctx context.Context, token string) error {
	f, ok := c.w.inner.(deleter)
	if !ok {
		return plain(c).Delete(token)
	}
	return c.w.deleted(token, f.DeleteCtx(ctx, token))
}

type iterable struct{ w *watched }

func (i iterable) All() (map[string][]byte, error) {
	return i.w.loadedAll(i.w.inner.(scs.IterableStore).All())
}

type iterableCtx struct{ w *watched }

func (i iterableCtx) AllCtx(ctx context.Context) (map[string][]byte, error) {
	return i.w.loadedAll(i.w.inner.(scs.IterableCtxStore).AllCtx(ctx))
}
