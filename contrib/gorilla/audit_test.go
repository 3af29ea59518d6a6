package gorillastore_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gorilla/sessions"
	"github.com/sessile-go/sessile/contrib/gorilla/audit"
	"github.com/stretchr/testify/require"
)

// audited is the stock application with an audit.
func audited(t *testing.T, opt audit.Options) (*site, *audit.Recorder) {
	store, a := audit.Wrap(sessions.NewFilesystemStore(t.TempDir(), authKey), opt)
	return serve(t, &site{store: store}), a
}

// Each of a round's saves but the first undoes the one before it: what the audit counts is what is missing in the end.
func TestAuditCountsLostUpdates(t *testing.T) {
	var log bytes.Buffer
	s, a := audited(t, audit.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	const rounds, clients = 10, 16
	b := s.browser()
	b.ok("/put?k=first&v=secret-value")
	for k := range rounds {
		var round []func()
		for c := range clients {
			round = append(round, func() { b.try(fmt.Sprintf("/put?wait=1&k=key%d.%d&v=1", k, c)) })
		}
		s.during(round, nil)
	}
	var kept int
	_, err := fmt.Sscan(b.ok("/count"), &kept)
	require.NoError(t, err)
	kept--
	require.Equal(t, rounds, kept)
	st := a.Stats()
	require.Equal(t, uint64(rounds*clients-kept), st.Reverted)
	require.Zero(t, st.Conflicting)
	require.Zero(t, st.Revived)
	require.Zero(t, st.Untracked)
	require.Equal(t, 1, st.Sessions)
	require.Equal(t, rounds*(clients-1), strings.Count(log.String(), "lost other requests' updates"))
	require.NotContains(t, log.String(), "secret-value")
	for _, c := range b.Jar.Cookies(s.request("/").URL) {
		require.NotContains(t, log.String(), c.Value)
	}

	s.during([]func(){
		func() { b.try("/put?wait=1&k=n&v=1") },
		func() { b.try("/put?wait=1&k=n&v=2") },
	}, nil)
	require.Equal(t, uint64(1), a.Stats().Conflicting)
	require.Equal(t, st.Lost()+1, a.Stats().Lost())
}

func TestAuditCountsRevivals(t *testing.T) {
	s, a := audited(t, audit.Options{})
	const times = 20
	for range times {
		b := s.browser()
		b.ok("/login?user=ann")
		old := b.clone()
		s.during([]func(){func() { b.clone().try("/put?wait=1&k=cart&v=3") }}, func() { b.ok("/logout") })
		require.Equal(t, "ann", old.ok("/get?k=user"), "the audit changes nothing")
		old.ok("/put?k=a&v=1") // which is no further revival
	}
	require.Equal(t, uint64(times), a.Stats().Revived)
	require.Equal(t, uint64(times), a.Stats().Deletions)
	require.Zero(t, a.Stats().Lost())
}

// A client that sends one request at a time loses nothing, whatever it does.
func TestAuditOfSequentialClient(t *testing.T) {
	s, a := audited(t, audit.Options{})
	b := s.browser()
	for n := range 20 {
		for _, path := range []string{"/put?k=a&v=%d", "/map?v=%d", "/read?k=a", "/login?user=u%d", "/flash?text=x%d", "/flashes", "/count"} {
			if strings.Contains(path, "%") {
				path = fmt.Sprintf(path, n)
			}
			b.ok(path)
		}
		if n%5 == 4 {
			b.ok("/logout")
			b.ok("/put?k=new&v=1")
		}
	}
	st := a.Stats()
	require.Greater(t, st.Saves, uint64(100))
	require.Zero(t, st.Lost())
	require.Zero(t, st.Revived)
	require.Zero(t, st.Untracked)
}

// A session that came from New, without the registry, is saved through the audit too, and one request may end a session
// and begin it again.
func TestAuditOfDirectUse(t *testing.T) {
	store, a := audit.Wrap(sessions.NewFilesystemStore(t.TempDir(), authKey), audit.Options{})
	r := httptest.NewRequest("GET", "/", nil)
	session, err := store.New(r, "app")
	require.NoError(t, err)
	session.Values["a"] = 1
	require.NoError(t, session.Save(r, httptest.NewRecorder()))
	require.Equal(t, uint64(1), a.Stats().Saves)
	session.Options.MaxAge = -1
	require.NoError(t, session.Save(r, httptest.NewRecorder()))
	require.Equal(t, uint64(1), a.Stats().Deletions)
	session.Options.MaxAge = 60
	require.NoError(t, session.Save(r, httptest.NewRecorder()))
	require.Zero(t, a.Stats().Revived)

	// Sessions without an id cannot be told apart, and are counted as such.
	store, a = audit.Wrap(sessions.NewCookieStore(authKey), audit.Options{})
	session, err = store.Get(r, "cookie")
	require.NoError(t, err)
	w := httptest.NewRecorder()
	require.NoError(t, session.Save(r, w))
	require.NotEmpty(t, w.Result().Cookies())
	require.Equal(t, uint64(1), a.Stats().Untracked)

	// Errors pass through.
	bad := httptest.NewRequest("GET", "/", nil)
	bad.AddCookie(&http.Cookie{Name: "cookie", Value: "made up"})
	session, err = store.Get(bad, "cookie")
	require.Error(t, err)
	require.True(t, session.IsNew)
}
