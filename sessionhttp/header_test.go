package sessionhttp_test

import (
	"errors"
	"io"
	"math/rand"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/sessionhttp"
	"github.com/stretchr/testify/require"
)

func TestHeadersSent(t *testing.T) {
	s := newSite(t, sessionhttp.Options{})
	for name, send := range map[string]func(http.ResponseWriter){
		"header": func(w http.ResponseWriter) { w.WriteHeader(http.StatusOK) },
		"body":   func(w http.ResponseWriter) { _, _ = io.WriteString(w, "hello") },
		"flush":  func(w http.ResponseWriter) { w.(http.Flusher).Flush() },
		"copy":   func(w http.ResponseWriter) { _, _ = w.(io.ReaderFrom).ReadFrom(strings.NewReader("hello")) },
	} {
		s.mux.HandleFunc("/sent/"+name, func(w http.ResponseWriter, r *http.Request) {
			session := sessionhttp.From(r)
			send(w)
			called := false
			fn := func(sessile.Txn) error { called = true; return nil }
			require.ErrorIs(t, session.Update(r.Context(), fn), sessionhttp.ErrHeadersSent)
			require.ErrorIs(t, session.Ensure(r.Context()), sessionhttp.ErrHeadersSent)
			require.ErrorIs(t, session.Login(r.Context(), "ann", fn), sessionhttp.ErrHeadersSent)
			require.False(t, called)
			require.NoError(t, session.View(r.Context(), nil))
		})
		s.raw("/sent/"+name, "")
		require.Zero(t, s.sessions(), name)
	}
	s.mux.HandleFunc("/inside", func(w http.ResponseWriter, r *http.Request) {
		require.ErrorIs(t, sessionhttp.From(r).Update(r.Context(), func(tx sessile.Txn) error {
			_, _ = io.WriteString(w, "hello")
			return increment(tx)
		}), sessionhttp.ErrHeadersSent)
	})
	s.raw("/inside", "")
	require.Zero(t, s.sessions())

	// With a session, only a login needs the header; a logout does not.
	s.mux.HandleFunc("/late", func(w http.ResponseWriter, r *http.Request) {
		session := sessionhttp.From(r)
		w.WriteHeader(http.StatusOK)
		require.NoError(t, session.Update(r.Context(), increment))
		require.ErrorIs(t, session.Login(r.Context(), "ann", nil), sessionhttp.ErrHeadersSent)
		require.NoError(t, session.Update(r.Context(), increment))
		require.NoError(t, session.Logout(r.Context()))
		require.ErrorIs(t, session.Update(r.Context(), increment), sessile.ErrEnded)
	})
	b := s.browser()
	b.ok("/add")
	b.ok("/late")
	require.Zero(t, s.sessions())

	// After the handler has returned, too.
	left := make(chan *sessionhttp.Session, 1)
	s.mux.HandleFunc("/leave", func(w http.ResponseWriter, r *http.Request) { left <- sessionhttp.From(r) })
	s.raw("/leave", "")
	require.ErrorIs(t, (<-left).Update(ctx, increment), sessionhttp.ErrHeadersSent)
}

func TestPanic(t *testing.T) {
	e := openEngine(t, sessile.Options{})
	m, err := sessionhttp.New(e, sessionhttp.Options{})
	require.NoError(t, err)
	w := httptest.NewRecorder()
	require.PanicsWithValue(t, "oops", func() {
		m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s := sessionhttp.From(r)
			require.PanicsWithValue(t, "inner", func() {
				_ = s.Update(r.Context(), func(tx sessile.Txn) error { panic("inner") })
			})
			require.NoError(t, s.Update(r.Context(), increment))
			panic("oops")
		})).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	})
	require.Len(t, w.Header()["Set-Cookie"], 1)
	require.EqualValues(t, 1, e.Stats().Sessions)
}

func TestTwoGoroutines(t *testing.T) {
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(proto, func(t *testing.T) {
			e := openEngine(t, sessile.Options{})
			m, err := sessionhttp.New(e, sessionhttp.Options{RenewAfter: time.Nanosecond})
			require.NoError(t, err)
			var made, refused atomic.Int64
			srv := httptest.NewUnstartedServer(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s := sessionhttp.From(r)
				var wg sync.WaitGroup
				for _, fn := range []func() error{
					func() error { return s.Update(r.Context(), increment) },
					func() error { return s.Update(r.Context(), increment) },
					func() error { return s.Login(r.Context(), "ann", nil) },
				} {
					wg.Go(func() {
						switch err := fn(); {
						case err == nil:
							made.Add(1)
						case errors.Is(err, sessionhttp.ErrHeadersSent), errors.Is(err, sessile.ErrRenewed):
							refused.Add(1)
						default:
							t.Error(err)
						}
					})
				}
				wg.Go(func() {
					for range rand.Intn(100) {
						runtime.Gosched()
					}
					_, err := io.WriteString(w, "hello")
					require.NoError(t, err)
					w.(http.Flusher).Flush()
				})
				wg.Wait()
			})))
			srv.EnableHTTP2 = proto == "HTTP/2.0"
			srv.StartTLS()
			defer srv.Close()
			for i := range 300 {
				jar, err := cookiejar.New(nil)
				require.NoError(t, err)
				client := http.Client{Jar: jar, Transport: srv.Client().Transport}
				for range 1 + i%3 {
					res, err := client.Get(srv.URL)
					require.NoError(t, err)
					require.Equal(t, proto, res.Proto)
					_, err = io.Copy(io.Discard, res.Body)
					require.NoError(t, err)
					require.NoError(t, res.Body.Close())
					require.LessOrEqual(t, len(res.Header["Set-Cookie"]), 1)
					if c := res.Cookies(); len(c) > 0 {
						_, err := e.Resolve(ctx, c[0].Value)
						require.NoError(t, err, "a cookie that was sent is good")
					}
				}
			}
			require.NotZero(t, made.Load())
			require.NotZero(t, refused.Load())
		})
	}
}
