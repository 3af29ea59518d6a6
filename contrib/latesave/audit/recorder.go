// Package audit finds out what load-and-save sessions lose. Wrappers around an application's store
// (contrib/scs/audit, contrib/gorilla/audit) tell a [Recorder] of each load, save and deletion; it counts and logs the saves
// that undo other requests' changes and those that bring back a deleted session.
package audit

import (
	"container/list"
	"crypto/sha256"
	"encoding/hex"
	"iter"
	"log/slog"
	"slices"
	"sync"

	"github.com/sessile-go/sessile/contrib/latesave"
)

// Options configure a Recorder.
type Options struct {
	// Logger is told of each save that loses something, at level Warn. Sessions appear in it as the first 8 hex digits of
	// the SHA-256 of their token, values never. nil discards.
	Logger *slog.Logger

	// MaxKeys bounds the memory: the keys remembered, over all sessions, at about 150 bytes each. Beyond it the session not used
	// for the longest time is forgotten, and what happens to it next goes uncounted. 0 means 100,000.
	MaxKeys int
}

// Stats are a Recorder's counters. They never count what may have been harmless: where a load, save or deletion
// overlaps another one, so that their order in the store is unknown, nothing is counted.
type Stats struct {
	Loads     uint64
	Saves     uint64
	Deletions uint64

	// Reverted are changes that another request had saved since the saver loaded the session, of keys that the saver did not
	// touch, each undone by its save.
	Reverted uint64

	// Conflicting are changes like those of keys that the saver changed as well, to another value, not having seen
	// the change.
	Conflicting uint64

	// Revived are saves of sessions that had been deleted.
	Revived uint64

	Untracked uint64 // loads and saves that could not be told to belong to any session
	Sessions  int    // remembered now
	Forgotten uint64 // sessions forgotten because of MaxKeys
}

// Lost returns the number of lost updates.
func (s Stats) Lost() uint64 { return s.Reverted + s.Conflicting }

// Values are the digests of a session's values.
type Values map[string]uint64

// Digest takes them.
func Digest(values iter.Seq2[string, any]) Values {
	d := make(Values)
	for key, v := range values {
		d[key] = latesave.Digest(v)
	}
	return d
}

// A Load is what a request saw, and when.
type Load struct {
	at     uint64
	values Values
}

// A Recorder keeps, for each session, who changed which key when, in a count of the saves and deletions that have begun. It is safe
// for concurrent use.
type Recorder struct {
	opt Options

	mu       sync.Mutex
	seq      uint64
	stats    Stats
	sessions map[name]*session
	recent   list.List // of *session, the latest used first
	keys     int
}

// A name is the SHA-256 of a token, which is not kept.
type name [sha256.Size]byte

// String returns enough of it to tell sessions apart.
func (n name) String() string { return hex.EncodeToString(n[:4]) }

type session struct {
	name name
	dead uint64 // when its deletion had ended; 0: it lives
	keys map[string]change
	at   *list.Element
}

// A change is the last one that a request made of a key, and what the store has for it.
type change struct {
	seq    uint64
	stored bool
	digest uint64
}

// NewRecorder makes a Recorder.
func NewRecorder(opt Options) *Recorder {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.MaxKeys <= 0 {
		opt.MaxKeys = 100_000
	}
	return &Recorder{opt: opt, sessions: make(map[name]*session)}
}

// Stats returns the counters.
func (r *Recorder) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.stats
	s.Sessions = len(r.sessions)
	return s
}

// Now returns the time that a load is given. It is taken when the store has answered.
func (r *Recorder) Now() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.seq
}

// Loaded records a load that had ended by at.
func (r *Recorder) Loaded(at uint64, values Values) *Load {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Loads++
	return &Load{at, values}
}

// Untracked records a load or a save that cannot be told to belong to any session.
func (r *Recorder) Untracked() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Untracked++
}

// Saving returns the time of a save that is about to begin.
func (r *Recorder) Saving() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq++
	return r.seq
}

// Saved records a save that began at seq and that the store has accepted, of values based on a load, nil for none. It
// returns what the request knows from then on.
func (r *Recorder) Saved(seq uint64, id string, base *Load, values Values) *Load {
	r.mu.Lock()
	r.stats.Saves++
	s := r.useLocked(id)
	revived := s.dead != 0 && seq > s.dead
	var reverted, conflicting []string
	switch {
	case s.dead != 0 && !revived:
		// Began before the deletion had ended: which of them came last in the store is unknown.
	default:
		if revived {
			r.stats.Revived++
			s.dead = 0
		}
		reverted, conflicting = r.compareLocked(s, seq, base, values)
		r.stats.Reverted += uint64(len(reverted))
		r.stats.Conflicting += uint64(len(conflicting))
	}
	r.evictLocked()
	after := &Load{r.seq, values}
	r.mu.Unlock()

	if revived {
		r.opt.Logger.Warn("session audit: a late save revived an ended session", "session", s.name.String())
	}
	if len(reverted)+len(conflicting) > 0 {
		r.opt.Logger.Warn("session audit: a save lost other requests' updates", "session", s.name.String(),
			"reverted", reverted, "conflicting", conflicting)
	}
	return after
}

// compareLocked takes the values for what the store has now, and returns the keys of the changes that this undoes.
func (r *Recorder) compareLocked(s *session, seq uint64, base *Load, values Values) (reverted, conflicting []string) {
	for key, last := range s.keys {
		digest, stored := values[key]
		if base == nil || last.seq <= base.at || last.stored == stored && last.digest == digest {
			continue
		}
		if was, had := base.values[key]; had == stored && was == digest {
			reverted = append(reverted, key)
			s.keys[key] = change{last.seq, stored, digest}
		} else {
			conflicting = append(conflicting, key)
		}
	}
	had := len(s.keys)
	changed := func(key string) {
		digest, stored := values[key]
		s.keys[key] = change{seq, stored, digest}
	}
	for key, digest := range values {
		if base == nil {
			changed(key)
		} else if was, had := base.values[key]; !had || was != digest {
			changed(key)
		}
	}
	if base != nil {
		for key := range base.values {
			if _, kept := values[key]; !kept {
				changed(key)
			}
		}
	}
	r.keys += len(s.keys) - had
	slices.Sort(reverted)
	slices.Sort(conflicting)
	return reverted, conflicting
}

// Deleted records a deletion that the store has made.
func (r *Recorder) Deleted(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq++
	r.stats.Deletions++
	s := r.useLocked(id)
	s.dead = r.seq
	r.keys -= len(s.keys)
	clear(s.keys)
	r.evictLocked()
}

// useLocked returns the session as the latest used. It counts as one key itself.
func (r *Recorder) useLocked(id string) *session {
	name := name(sha256.Sum256([]byte(id)))
	s := r.sessions[name]
	if s == nil {
		s = &session{name: name, keys: make(map[string]change)}
		s.at = r.recent.PushFront(s)
		r.sessions[name] = s
		r.keys++
	}
	r.recent.MoveToFront(s.at)
	return s
}

func (r *Recorder) evictLocked() {
	for r.keys > r.opt.MaxKeys {
		s := r.recent.Remove(r.recent.Back()).(*session)
		delete(r.sessions, s.name)
		r.keys -= 1 + len(s.keys)
		r.stats.Forgotten++
	}
}
