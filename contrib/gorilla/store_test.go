package gorillastore_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/sessions"
	gorillastore "github.com/sessile-go/sessile/contrib/gorilla"

	"github.com/sessile-go/sessile"
	"github.com/stretchr/testify/require"
)

func newStore(t testing.TB, e *sessile.Engine) *gorillastore.Store {
	t.Helper()
	s, err := gorillastore.New(e, authKey)
	require.NoError(t, err)
	return s
}

// A visit is a request with the cookies of an earlier one's response.
func visit(w *httptest.ResponseRecorder) *http.Request {
	r := httptest.NewRequest("GET", "/", nil)
	if w != nil {
		for _, c := range w.Result().Cookies() {
			r.AddCookie(c)
		}
	}
	return r
}

func get(t testing.TB, s sessions.Store, r *http.Request) *sessions.Session {
	t.Helper()
	session, err := s.Get(r, "app")
	require.NoError(t, err)
	return session
}

// save returns the response.
func save(t testing.TB, r *http.Request, session *sessions.Session) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	require.NoError(t, session.Save(r, w))
	return w
}

func TestValuesOfAllKinds(t *testing.T) {
	e := openEngine(t)
	s := newStore(t, e)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	want := map[any]any{
		"string": "s", "": "empty", 7: int64(7), colour: true, "bytes": []byte{0, 1}, "float": 1.5, "time": at,
		"cart": &cart{[]string{"a", "b"}}, "map": map[string]int{"x": 1, "y": 2}, "nil": nil, "list": []any{"a", 1, nil},
		"\x00reserved": "fine", "uint": uint16(3),
	}
	r := visit(nil)
	session := get(t, s, r)
	require.True(t, session.IsNew)
	require.Empty(t, session.ID)
	session.Values = want
	w := save(t, r, session)
	require.NotEmpty(t, session.ID)

	r = visit(w)
	session = get(t, s, r)
	require.False(t, session.IsNew)
	require.Equal(t, want, session.Values)
	require.Same(t, session, get(t, s, r), "the registry keeps it")

	// Nothing changed: nothing written. gob writes maps in random order.
	version := versionOf(t, e, session.ID)
	for range 20 {
		r = visit(w)
		save(t, r, get(t, s, r))
	}
	require.Equal(t, version, versionOf(t, e, session.ID))

	// Changed in place.
	r = visit(w)
	session = get(t, s, r)
	session.Values["cart"].(*cart).Items[1] = "c"
	session.Values["map"].(map[string]int)["x"]++
	session.Values["bytes"].([]byte)[0] = 9
	delete(session.Values, colour)
	save(t, r, session)
	session = get(t, s, visit(w))
	require.Equal(t, &cart{[]string{"a", "c"}}, session.Values["cart"])
	require.Equal(t, 2, session.Values["map"].(map[string]int)["x"])
	require.Equal(t, []byte{9, 1}, session.Values["bytes"])
	require.NotContains(t, session.Values, colour)
	require.Len(t, session.Values, len(want)-1)
}

func versionOf(t testing.TB, e *sessile.Engine, id string) (v uint64) {
	t.Helper()
	require.NoError(t, e.View(ctx, id, func(tx sessile.Txn) error { v = tx.Info().Version; return nil }))
	return v
}

// The same request may save several times, end its session, and begin a new one.
func TestSeveralSaves(t *testing.T) {
	e := openEngine(t)
	s := newStore(t, e)
	r := visit(nil)
	session := get(t, s, r)
	session.Values["a"] = 1
	save(t, r, session)
	first := session.ID
	session.Values["b"] = 2
	delete(session.Values, "a")
	w := save(t, r, session)
	require.Equal(t, first, session.ID)
	require.Equal(t, map[any]any{"b": 2}, get(t, s, visit(w)).Values)

	session.Options.MaxAge = -1
	ended := save(t, r, session)
	require.Negative(t, ended.Result().Cookies()[0].MaxAge)
	save(t, r, session) // twice is fine
	session.Options.MaxAge = 60
	require.ErrorIs(t, session.Save(r, httptest.NewRecorder()), gorillastore.ErrGone)
	session.ID = ""
	w2 := save(t, r, session)
	require.NotEqual(t, first, session.ID)
	require.Equal(t, map[any]any{"b": 2}, get(t, s, visit(w2)).Values)
	require.True(t, get(t, s, visit(w)).IsNew)
}

func TestMisuse(t *testing.T) {
	e := openEngine(t)
	s := newStore(t, e)
	t.Run("no engine", func(t *testing.T) {
		_, err := gorillastore.New(nil, authKey)
		require.Error(t, err)
	})
	t.Run("keys", func(t *testing.T) {
		for _, pairs := range [][][]byte{{}, {nil}, {authKey, []byte("short")}} {
			_, err := gorillastore.New(e, pairs...)
			require.Error(t, err)
		}
	})
	t.Run("foreign id", func(t *testing.T) {
		r := visit(nil)
		session := get(t, s, r)
		session.ID = "mine"
		w := httptest.NewRecorder()
		require.ErrorIs(t, session.Save(r, w), gorillastore.ErrForeign)
		require.Empty(t, w.Result().Cookies())
		_, n := count(t, e)
		require.Zero(t, n)

		other := sessions.NewSession(s, "app")
		other.ID = "mine"
		require.ErrorIs(t, other.Save(r, w), gorillastore.ErrForeign)
		other.ID, other.Options = "", nil
		save(t, r, other)
	})
	t.Run("cookies made up", func(t *testing.T) {
		r := visit(nil)
		session := get(t, s, r)
		session.Values["a"] = 1
		w := save(t, r, session)
		good := w.Result().Cookies()[0].Value
		for _, value := range []string{"x", good[:len(good)-2], strings.ToUpper(good), base64.StdEncoding.EncodeToString([]byte(session.ID))} {
			r := visit(nil)
			r.AddCookie(&http.Cookie{Name: "app", Value: value})
			session, err := s.Get(r, "app")
			require.Error(t, err)
			require.True(t, session.IsNew)
			require.Empty(t, session.Values)
		}
		// A cookie of another name.
		r = visit(nil)
		r.AddCookie(&http.Cookie{Name: "admin", Value: good})
		_, err := s.Get(r, "admin")
		require.Error(t, err)
	})
	t.Run("values", func(t *testing.T) {
		type unregistered struct{ A int }
		for name, set := range map[string]func(map[any]any){
			"type":     func(v map[any]any) { v["a"] = unregistered{1} },
			"func":     func(v map[any]any) { v["a"] = func() {} },
			"key type": func(v map[any]any) { v[unregistered{1}] = "a" },
		} {
			r := visit(nil)
			session := get(t, s, r)
			set(session.Values)
			require.Error(t, session.Save(r, httptest.NewRecorder()), name)
		}
		r := visit(nil)
		session := get(t, s, r)
		session.Values[strings.Repeat("k", 300)] = 1
		require.ErrorIs(t, session.Save(r, httptest.NewRecorder()), sessile.ErrInvalidKey)
		clear(session.Values)
		session.Values["big"] = strings.Repeat("v", 65<<10)
		require.ErrorIs(t, session.Save(r, httptest.NewRecorder()), sessile.ErrTooLarge)
		clear(session.Values)
		save(t, r, session) // after a failure it can still be saved
	})
	t.Run("closed", func(t *testing.T) {
		e, err := sessile.Open(sessile.Options{InMemory: true})
		require.NoError(t, err)
		s := newStore(t, e)
		r := visit(nil)
		w := save(t, r, get(t, s, r))
		require.NoError(t, e.Close())
		session, err := s.Get(visit(w), "app")
		require.ErrorIs(t, err, sessile.ErrClosed)
		require.NotNil(t, session)
		session, err = s.Get(visit(nil), "app")
		require.NoError(t, err)
		require.ErrorIs(t, session.Save(visit(nil), httptest.NewRecorder()), sessile.ErrClosed)
	})
}

func count(t testing.TB, e *sessile.Engine) (ids []string, n int) {
	t.Helper()
	for info, err := range e.All(ctx) {
		require.NoError(t, err)
		ids = append(ids, info.ID)
	}
	return ids, len(ids)
}

// A value that cannot be decoded counts as absent, survives saves, and does not keep anyone from logging out.
func TestUndecodable(t *testing.T) {
	e := openEngine(t)
	s := newStore(t, e)
	r := visit(nil)
	session := get(t, s, r)
	session.Values["a"], session.Values["b"] = 1, 2
	w := save(t, r, session)
	broken := []byte("g not a gob")
	require.NoError(t, e.Update(ctx, session.ID, func(tx sessile.Txn) error { return tx.Set("gorilla.sa", broken) }))

	r = visit(w)
	session = get(t, s, r)
	require.Equal(t, map[any]any{"b": 2}, session.Values)
	session.Values["c"] = 3
	save(t, r, session)
	require.NoError(t, e.View(ctx, session.ID, func(tx sessile.Txn) error {
		v, _ := tx.Get("gorilla.sa")
		require.True(t, bytes.Equal(broken, v))
		return nil
	}))

	errBroken := errors.New("broken")
	s.OnDecodeError = func(id string, key any, err error) error {
		require.Equal(t, session.ID, id)
		require.Equal(t, "a", key)
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	strict, err := s.New(visit(w), "app")
	require.ErrorIs(t, err, errBroken)
	require.Empty(t, strict.Values)
	s.OnDecodeError = nil

	r = visit(w)
	session = get(t, s, r)
	session.Values["a"] = 4
	save(t, r, session)
	require.Equal(t, map[any]any{"a": 4, "b": 2, "c": 3}, get(t, s, visit(w)).Values)
	session.Options.MaxAge = -1
	save(t, r, session)
	require.True(t, get(t, s, visit(w)).IsNew)
}

func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := sessile.Open(sessile.Options{InMemory: true, IdleTimeout: time.Hour, Lifetime: sessile.NoTimeout})
		require.NoError(t, err)
		defer func() { require.NoError(t, e.Close()) }()
		s := newStore(t, e)
		s.MaxAge(60)
		r := visit(nil)
		session := get(t, s, r)
		session.Values["a"] = 1
		w := save(t, r, session)
		require.Equal(t, 60, w.Result().Cookies()[0].MaxAge)
		for range 3 { // each Save extends it
			time.Sleep(40 * time.Second)
			r = visit(w)
			session = get(t, s, r)
			require.False(t, session.IsNew)
			w = save(t, r, session)
		}
		time.Sleep(61 * time.Second)
		session, err = s.Get(visit(w), "app")
		require.Error(t, err, "securecookie looks at the age itself")
		require.True(t, session.IsNew)

		// MaxAge 0 is a cookie until the browser closes, and the engine's timeout.
		r = visit(nil)
		session = get(t, s, r)
		session.Options.MaxAge = 0
		w = save(t, r, session)
		require.Zero(t, w.Result().Cookies()[0].MaxAge)
		s.MaxAge(0)
		time.Sleep(59 * time.Minute)
		require.False(t, get(t, s, visit(w)).IsNew)
		time.Sleep(2 * time.Minute)
		require.True(t, get(t, s, visit(w)).IsNew)

		// Unless the application takes it for the end.
		s.MaxAge(60)
		r = visit(nil)
		session = get(t, s, r)
		w = save(t, r, session)
		s.EndAtZero = true
		session.Options.MaxAge = 0
		require.Negative(t, save(t, r, session).Result().Cookies()[0].MaxAge)
		require.True(t, get(t, s, visit(w)).IsNew)
	})
}

// A Save goes on when the browser has gone.
func TestCancelledRequest(t *testing.T) {
	e := openEngine(t)
	s := newStore(t, e)
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	r := visit(nil).WithContext(cancelled)
	session := get(t, s, r)
	session.Values["a"] = 1
	w := save(t, r, session)
	require.False(t, get(t, s, visit(w)).IsNew)
	session.Options.MaxAge = -1
	save(t, r, session)
	require.True(t, get(t, s, visit(w)).IsNew)
}

// Keys of the engine's own live beside the values, and no secret is in the store.
func TestBesideTheEngine(t *testing.T) {
	e := openEngine(t)
	s := newStore(t, e)
	r := visit(nil)
	session := get(t, s, r)
	session.Values["n"] = 1
	w := save(t, r, session)
	n := sessile.NewKey[int]("n")
	require.NoError(t, e.Update(ctx, session.ID, func(tx sessile.Txn) error {
		_, err := sessile.Add(tx, n, 41)
		return err
	}))
	r = visit(w)
	session = get(t, s, r)
	require.Equal(t, map[any]any{"n": 1}, session.Values)
	clear(session.Values)
	session.ID = ""
	save(t, r, session)
	got, err := sessile.Read(ctx, e.Session(session.ID), n)
	require.NoError(t, err)
	require.Equal(t, 41, got)
}
