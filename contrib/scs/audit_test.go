package scsstore_test

import (
	"bytes"
	"encoding/gob"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	"github.com/sessile-go/sessile/contrib/scs/audit"
	"github.com/stretchr/testify/require"
)

func init() { gob.Register(map[string]int{}) }

// audited is the stock application with an audit.
func audited(t *testing.T, opt audit.Options) (*site, *audit.Recorder) {
	sm := scs.New()
	sm.Store = memstore.NewWithCleanupInterval(0)
	a := audit.Wrap(sm, opt)
	return serve(t, &site{sm: sm}), a
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
	kept := len(strings.Fields(b.ok("/keys"))) - 1
	require.Equal(t, rounds, kept)
	st := a.Stats()
	require.Equal(t, uint64(rounds*clients-kept), st.Reverted)
	require.Zero(t, st.Conflicting)
	require.Zero(t, st.Revived)
	require.Zero(t, st.Untracked)
	require.Equal(t, 1, st.Sessions)
	require.Equal(t, rounds*(clients-1), strings.Count(log.String(), "lost other requests' updates"))
	require.Contains(t, log.String(), "reverted=[key")
	require.NotContains(t, log.String(), b.token())
	require.NotContains(t, log.String(), "secret-value")

	// The same key, changed by two that have both read the old value.
	s.during([]func(){
		func() { b.try("/put?wait=1&k=n&v=1") },
		func() { b.try("/put?wait=1&k=n&v=2") },
	}, nil)
	require.Equal(t, uint64(1), a.Stats().Conflicting)
	require.Equal(t, st.Reverted, a.Stats().Reverted)
	// To the same value is no loss.
	s.during([]func(){
		func() { b.try("/put?wait=1&k=n&v=3") },
		func() { b.try("/put?wait=1&k=n&v=3") },
	}, nil)
	require.Equal(t, uint64(1), a.Stats().Conflicting)
	require.Equal(t, st.Lost()+1, a.Stats().Lost())
}

func TestAuditCountsRevivals(t *testing.T) {
	var log bytes.Buffer
	s, a := audited(t, audit.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
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
	require.Zero(t, a.Stats().Lost())
	require.Equal(t, times, strings.Count(log.String(), "revived"))

	// A renewal, too, ends the old token.
	b := s.browser()
	b.ok("/put?k=a&v=1")
	s.during([]func(){func() { b.clone().try("/put?wait=1&k=cart&v=3") }}, func() { b.ok("/login?user=ann") })
	require.Equal(t, uint64(times+1), a.Stats().Revived)
}

// A client that sends one request at a time loses nothing, whatever it does.
func TestAuditOfSequentialClient(t *testing.T) {
	s, a := audited(t, audit.Options{})
	s.sm.IdleTimeout = 1e12
	b := s.browser()
	for n := range 20 {
		for _, path := range []string{"/put?k=a&v=%d", "/map?v=%d", "/get?k=a", "/login?user=u%d", "/put?k=b%d&v=1", "/pop?k=a", "/keys"} {
			if strings.Contains(path, "%") {
				path = fmt.Sprintf(path, n)
			}
			b.ok(path)
		}
		if n%7 == 3 {
			b.ok("/clear")
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
