package main

import (
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/sessionhttp"
)

// A race is the same request against two kinds of session: Sessile's, and one that is loaded, changed and saved, as
// nearly every session library does it.
type race struct {
	mu sync.Mutex
	// Guarded by mu.
	saved map[string][]byte // by session id, encoded: a store like others, correct by itself
	when  map[string]time.Time
}

func newRace() *race { return &race{saved: map[string][]byte{}, when: map[string]time.Time{}} }

// work is what a handler does between reading its session and changing it.
const work = 5 * time.Millisecond

// racers is how many visitors' stored sessions are kept at most.
const racers = 1000

var laps = sessile.NewKey[int64]("race")

type lapped struct {
	Laps int64 `json:"laps"`
}

func (c *race) id(r *http.Request) (id string, err error) {
	err = sessionhttp.From(r).View(r.Context(), func(tx sessile.Txn) error { id = tx.ID(); return nil })
	return id, err
}

func (c *race) start(w http.ResponseWriter, r *http.Request) {
	err := sessionhttp.From(r).Update(r.Context(), func(tx sessile.Txn) error { return laps.Set(tx, 0) })
	id, idErr := c.id(r)
	if err == nil {
		err = idErr
	}
	if err == nil {
		c.save(id, lapped{})
	}
	done(w, r, err, map[string]bool{"ready": err == nil})
}

// update is the right way: the work outside, the change in a transaction.
func (c *race) update(w http.ResponseWriter, r *http.Request) {
	time.Sleep(work)
	err := sessionhttp.From(r).Update(r.Context(), func(tx sessile.Txn) error {
		_, err := sessile.Add(tx, laps, 1)
		return err
	})
	done(w, r, err, struct{}{})
}

// loadAndSave is the usual one: load all of the session, work, save all of it.
func (c *race) loadAndSave(w http.ResponseWriter, r *http.Request) {
	id, err := c.id(r)
	if err != nil {
		fail(w, err)
		return
	}
	session := c.load(id)
	time.Sleep(work)
	session.Laps++
	c.save(id, session)
	answer(w, struct{}{})
}

func (c *race) load(id string) (l lapped) {
	c.mu.Lock()
	b := c.saved[id]
	c.mu.Unlock()
	_ = json.Unmarshal(b, &l) // nothing stored: a new session
	return l
}

func (c *race) save(id string, l lapped) {
	b, err := json.Marshal(l)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for old, at := range c.when {
		if len(c.saved) >= racers && time.Since(at) > time.Minute {
			delete(c.saved, old)
			delete(c.when, old)
		}
	}
	if _, known := c.saved[id]; known || len(c.saved) < racers {
		c.saved[id], c.when[id] = b, time.Now()
	}
}

func (c *race) result(w http.ResponseWriter, r *http.Request) {
	id, err := c.id(r)
	n := int64(0)
	if err == nil {
		n, err = sessile.Read(r.Context(), sessionhttp.From(r), laps)
	}
	if err != nil {
		fail(w, err)
		return
	}
	answer(w, map[string]int64{"sessile": n, "loadsave": c.load(id).Laps})
}
