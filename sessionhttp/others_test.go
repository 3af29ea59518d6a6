package sessionhttp_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/sessile-go/sessile/sessionhttp"
	"github.com/stretchr/testify/require"
)

func TestOthers(t *testing.T) {
	s := newSite(t, sessionhttp.Options{})
	s.mux.HandleFunc("/others", func(w http.ResponseWriter, r *http.Request) {
		n := 0
		for _, err := range sessionhttp.From(r).Others(r.Context()) {
			if err != nil {
				reply(w, err, "")
				return
			}
			n++
		}
		fmt.Fprint(w, n)
	})
	s.handle("/end", func(s *sessionhttp.Session, r *http.Request) error { return s.EndOther(r.Context(), r.FormValue("id")) })
	s.mux.HandleFunc("/endall", func(w http.ResponseWriter, r *http.Request) {
		n, err := sessionhttp.From(r).EndOthers(r.Context())
		reply(w, err, "%d", n)
	})
	login := func(user string) (*browser, string) {
		b := s.browser()
		b.ok("/login?user=" + user)
		id, _, _ := strings.Cut(b.token(), ".")
		return b, id
	}
	a, idA := login("ann")
	b, idB := login("ann")
	c, idC := login("bob")
	_, _ = login("ann")
	require.Equal(t, "2", a.ok("/others"))
	for _, id := range []string{idC, idA, "unknown", ""} {
		code, _ := a.get("/end?id=" + id)
		require.NotEqual(t, http.StatusOK, code)
	}
	a.ok("/end?id=" + idB)
	code, _ := b.get("/user")
	require.Equal(t, http.StatusUnauthorized, code)
	require.Equal(t, "1", a.ok("/endall"))
	require.Equal(t, "0", a.ok("/others"))
	require.Equal(t, "bob", c.ok("/user"))
	d := s.browser()
	d.ok("/add")
	for _, path := range []string{"/others", "/endall", "/end?id=" + idA} {
		code, _ := d.get(path)
		require.Equal(t, http.StatusUnauthorized, code)
	}
	require.Equal(t, "ann", a.ok("/user"))
}

// Ending other sessions needs no header and goes on when the browser has gone.
func TestEndOthersLate(t *testing.T) {
	s := newSite(t, sessionhttp.Options{})
	s.mux.HandleFunc("/late", func(w http.ResponseWriter, r *http.Request) {
		session := sessionhttp.From(r)
		fmt.Fprint(w, "header and all")
		require.NoError(t, http.NewResponseController(w).Flush())
		gone, cancel := context.WithCancel(r.Context())
		cancel()
		require.NoError(t, session.EndOther(gone, r.FormValue("id")))
		n, err := session.EndOthers(gone)
		require.NoError(t, err)
		require.Equal(t, 2, n)
	})
	a, b := s.browser(), s.browser()
	a.ok("/login?user=ann")
	b.ok("/login?user=ann")
	for range 2 {
		s.browser().ok("/login?user=ann")
	}
	id, _, _ := strings.Cut(b.token(), ".")
	a.ok("/late?id=" + id)
	require.EqualValues(t, 1, s.sessions())
	require.Equal(t, "ann", a.ok("/user"))
	code, _ := b.get("/user")
	require.Equal(t, http.StatusUnauthorized, code)
}
