package main

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/sessionhttp"
)

// An ownSession is one of the customer's: in this browser, or in another one.
type ownSession struct {
	ID, Browser, Seen string
	Here              bool
	seen              time.Time
}

// sessions returns the customer's, this one first, then by last use.
func (s *shop) sessions(ctx context.Context, session *sessionhttp.Session) (own []ownSession, err error) {
	add := func(info sessile.Info, here bool) error {
		name, err := sessile.Read(ctx, s.engine.Session(info.ID), browser)
		if errors.Is(err, sessile.ErrNotFound) {
			return nil // it ended just now
		}
		own = append(own, ownSession{info.ID, cmp.Or(name, "a browser"), info.LastSeen.Format(time.DateTime), here, info.LastSeen})
		return err
	}
	var here sessile.Info
	err = session.View(ctx, func(tx sessile.Txn) error { here = tx.Info(); return nil })
	if err == nil {
		err = add(here, true)
	}
	if err != nil {
		return nil, err
	}
	for info, err := range session.Others(ctx) {
		if err == nil {
			err = add(info, false)
		}
		if err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(own, func(a, b ownSession) int {
		switch {
		case a.Here:
			return -1
		case b.Here:
			return 1
		}
		return b.seen.Compare(a.seen)
	})
	return own, nil
}

// browserName says what a person would call the browser.
func browserName(agent string) string {
	first := func(names ...string) string { // pairs of what to look for and what it is
		for i := 0; i < len(names); i += 2 {
			if strings.Contains(agent, names[i]) {
				return names[i+1]
			}
		}
		return ""
	}
	name := first("Firefox/", "Firefox", "Edg/", "Edge", "OPR/", "Opera", "Chrome/", "Chrome", "Safari/", "Safari", "curl/", "curl")
	system := first("Android", "Android", "iPhone", "iPhone", "iPad", "iPad", "Windows", "Windows", "Mac OS", "macOS", "Linux", "Linux")
	name = cmp.Or(name, "Another browser")
	if system == "" {
		return name
	}
	return name + " on " + system
}

func (s *shop) login(w http.ResponseWriter, r *http.Request) {
	user := strings.TrimSpace(r.FormValue("user"))
	if user == "" || len(user) > 40 {
		http.Error(w, "a name of 1 to 40 bytes, please", http.StatusBadRequest)
		return
	}
	err := sessionhttp.From(r).Login(r.Context(), user, func(tx sessile.Txn) error {
		return browser.Set(tx, browserName(r.UserAgent()))
	})
	done(w, r, err, nil)
}

// logout ends the session. That holds in memory at once, whatever the disk does.
func (s *shop) logout(w http.ResponseWriter, r *http.Request) {
	done(w, r, sessionhttp.From(r).Logout(r.Context()), nil)
}

// end ends one of the customer's other sessions.
func (s *shop) end(w http.ResponseWriter, r *http.Request) {
	err := sessionhttp.From(r).EndOther(r.Context(), r.FormValue("id"))
	if errors.Is(err, sessile.ErrNotFound) {
		err = nil // it has ended already
	}
	done(w, r, err, nil)
}

func (s *shop) endOthers(w http.ResponseWriter, r *http.Request) {
	_, err := sessionhttp.From(r).EndOthers(r.Context())
	done(w, r, err, nil)
}

// endAll logs the customer out everywhere, here too.
func (s *shop) endAll(w http.ResponseWriter, r *http.Request) {
	_, err := sessionhttp.From(r).EndOthers(r.Context())
	if err == nil {
		err = sessionhttp.From(r).Logout(r.Context())
	}
	done(w, r, err, nil)
}
