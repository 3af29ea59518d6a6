// Package audit counts what an application on gorilla/sessions loses today, in production, before anything is changed:
//
//	store, a := audit.Wrap(store, audit.Options{Logger: slog.Default()})
//	…
//	a.Stats() // lost updates, revived sessions
//
// It stands around the store that the application has and passes everything through: the same sessions, results and errors. It sees
// what passes through this process, and where it cannot be certain it counts nothing, so the figures are
// lower bounds. BenchmarkRequest of contrib/gorilla states the cost.
//
// It is for stores that write whole sessions under their ID, as FilesystemStore and those for databases do. Sessions
// without one, CookieStore's, are counted as untracked. Around this module's Store, which applies changes only, it would report losses
// that do not happen.
package audit

import (
	"fmt"
	"iter"
	"net/http"

	"github.com/gorilla/sessions"
	"github.com/sessile-go/sessile/contrib/latesave"
	record "github.com/sessile-go/sessile/contrib/latesave/audit"
)

// Options configure an audit.
type Options = record.Options

// Stats are what was counted.
type Stats = record.Stats

// A Recorder has the Stats.
type Recorder = record.Recorder

// Wrap returns an audit around the store, to be used in its place, and what has its Stats. The store's own Get is not called: it is
// taken for what gorilla's stores have, a look into the request's Registry.
func Wrap(store sessions.Store, opt Options) (sessions.Store, *Recorder) {
	w := &watched{inner: store, rec: record.NewRecorder(opt)}
	_, w.endsAtZero = store.(*sessions.FilesystemStore)
	return w, w.rec
}

type watched struct {
	inner      sessions.Store
	rec        *Recorder
	endsAtZero bool
	loads      latesave.WeakMap[sessions.Session, *load]
}

// A load is what a request knows of its session. Like the session it is not for two goroutines at once.
type load struct {
	id    string // "" when it is not stored yet
	known *record.Load
	ended bool // by this request
}

// Get implements sessions.Store.
func (w *watched) Get(r *http.Request, name string) (*sessions.Session, error) {
	return sessions.GetRegistry(r).Get(w, name)
}

// New implements sessions.Store.
func (w *watched) New(r *http.Request, name string) (*sessions.Session, error) {
	session, err := w.inner.New(r, name)
	if session == nil {
		return session, err
	}
	ld := &load{}
	switch {
	case err != nil || session.IsNew:
	case session.ID == "":
		w.rec.Untracked()
	default:
		ld.id = session.ID
		ld.known = w.rec.Loaded(w.rec.Now(), record.Digest(values(session)))
	}
	w.loads.Store(session, ld)
	w.adopt(session, name)
	return session, err
}

// adopt makes session.Save come here. Only a Registry can set a session's store.
func (w *watched) adopt(session *sessions.Session, name string) {
	_, _ = sessions.GetRegistry(new(http.Request)).Get(adopted{w, session}, name)
}

type adopted struct {
	*watched
	session *sessions.Session
}

func (a adopted) New(*http.Request, string) (*sessions.Session, error) { return a.session, nil }

// Save implements sessions.Store.
func (w *watched) Save(r *http.Request, rw http.ResponseWriter, session *sessions.Session) error {
	ld := w.loads.Load(session)
	if ld == nil {
		ld = &load{}
		w.loads.Store(session, ld)
	}
	saved := record.Digest(values(session))
	seq := w.rec.Saving()
	if err := w.inner.Save(r, rw, session); err != nil {
		return err
	}
	id := session.ID
	switch {
	case id == "":
		w.rec.Untracked()
	case session.Options != nil && (session.Options.MaxAge < 0 || session.Options.MaxAge == 0 && w.endsAtZero):
		w.rec.Deleted(id)
		ld.id, ld.known, ld.ended = id, nil, true
	case ld.ended && ld.id == id:
		w.rec.Untracked() // begun anew by the request that ended it
	default:
		if ld.id != id {
			ld.id, ld.known = id, nil
		}
		ld.known = w.rec.Saved(seq, id, ld.known, saved)
	}
	return nil
}

// values yields the session's values under names for the log.
func values(session *sessions.Session) iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		for key, v := range session.Values {
			name, ok := key.(string)
			if !ok {
				name = fmt.Sprintf("%T(%v)", key, key)
			}
			if !yield(name, v) {
				return
			}
		}
	}
}
