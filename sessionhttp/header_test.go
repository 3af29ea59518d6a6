package sessionhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
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
			ctx := context.WithoutCancel(r.Context()) // the client, who has the answer, may leave
			called := false
			fn := func(sessile.Txn) error { called = true; return nil }
			require.ErrorIs(t, session.Update(ctx, fn), sessionhttp.ErrHeadersSent)
			require.ErrorIs(t, session.Ensure(ctx), sessionhttp.ErrHeadersSent)
			require.ErrorIs(t, session.Login(ctx, "ann", fn), sessionhttp.ErrHeadersSent)
			require.False(t, called)
			require.NoError(t, session.View(ctx, nil))
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
			delivered := int64(0)
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
				u, err := url.Parse(srv.URL)
				require.NoError(t, err)
				delivered += int64(len(jar.Cookies(u)))
				require.Equal(t, delivered, e.Stats().Sessions, "no session is made without its cookie")
			}
			require.NotZero(t, made.Load())
			require.NotZero(t, refused.Load())
		})
	}
}

// Switching protocols is a final header, the other 1xx are not.
func TestInformationalHeaders(t *testing.T) {
	e := openEngine(t, sessile.Options{})
	m, err := sessionhttp.New(e, sessionhttp.Options{})
	require.NoError(t, err)
	for code, final := range map[int]bool{100: false, 102: false, 103: false, 199: false, 101: true, 200: true, 204: true, 304: true, 500: true} {
		w := &headers{h: http.Header{}}
		m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			require.NoError(t, sessionhttp.From(r).Ensure(r.Context()))
			w.WriteHeader(code)
			err := sessionhttp.From(r).Login(r.Context(), "ann", nil)
			if final {
				require.ErrorIs(t, err, sessionhttp.ErrHeadersSent, code)
			} else {
				require.NoError(t, err, code)
			}
		})).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		require.Equal(t, []int{code}, w.codes)
		require.Equal(t, final, w.sent.Get("Set-Cookie") != "", code)
		require.Len(t, w.h["Set-Cookie"], 1)
	}
}

// headers notes what goes out with WriteHeader.
type headers struct {
	h, sent http.Header
	codes   []int
}

func (w *headers) Header() http.Header         { return w.h }
func (w *headers) Write(b []byte) (int, error) { return len(b), nil }
func (w *headers) WriteHeader(code int)        { w.codes, w.sent = append(w.codes, code), w.h.Clone() }

// onlyUnwraps is how many middlewares wrap a writer: what it can do besides is found by http.ResponseController alone.
type onlyUnwraps struct{ w http.ResponseWriter }

func (o onlyUnwraps) Header() http.Header         { return o.w.Header() }
func (o onlyUnwraps) Write(b []byte) (int, error) { return o.w.Write(b) }
func (o onlyUnwraps) WriteHeader(code int)        { o.w.WriteHeader(code) }
func (o onlyUnwraps) Unwrap() http.ResponseWriter { return o.w }

// What http.ResponseController finds below our writer does not send the header past the session.
func TestUnwrapped(t *testing.T) {
	s := newSite(t, sessionhttp.Options{})
	handles := make(chan *sessionhttp.Session, 1)
	s.mux.HandleFunc("/flush", func(w http.ResponseWriter, r *http.Request) {
		session := sessionhttp.From(r)
		_, offered := w.(http.Flusher)
		require.False(t, offered)
		require.NoError(t, session.Update(r.Context(), increment))
		require.NoError(t, http.NewResponseController(w).SetWriteDeadline(time.Time{}))
		require.NoError(t, http.NewResponseController(w).Flush())
		require.ErrorIs(t, session.Login(r.Context(), "ann", nil), sessionhttp.ErrHeadersSent)
	})
	s.mux.HandleFunc("/hijack", func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		require.NoError(t, err)
		defer conn.Close()
		require.ErrorIs(t, sessionhttp.From(r).Update(r.Context(), increment), sessionhttp.ErrHeadersSent)
		handles <- sessionhttp.From(r)
		fmt.Fprint(conn, "HTTP/1.1 204 No Content\r\n\r\n")
	})
	s.Server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.m.Handler(s.mux).ServeHTTP(onlyUnwraps{w}, r)
	})
	require.Len(t, s.raw("/flush", "").Cookies(), 1)
	require.Equal(t, http.StatusNoContent, s.raw("/hijack", "").StatusCode)
	session := <-handles
	require.ErrorIs(t, session.Update(ctx, increment), sessionhttp.ErrHeadersSent)
	select {
	case <-session.Done():
		t.Fatal("it outlives its request")
	default:
	}
	session.Close()
	<-session.Done()

	// Nothing is sealed by what cannot be done.
	w := httptest.NewRecorder()
	s.m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		require.ErrorIs(t, http.NewResponseController(w).Flush(), http.ErrNotSupported)
		_, _, err := http.NewResponseController(w).Hijack()
		require.ErrorIs(t, err, http.ErrNotSupported)
		require.NoError(t, sessionhttp.From(r).Ensure(r.Context()))
	})).ServeHTTP(&headers{h: w.Header()}, httptest.NewRequest("GET", "/", nil))
	require.Len(t, w.Header()["Set-Cookie"], 1)
}

// Inside of our Handler http.TimeoutHandler throws no cookie away: what was committed before the time was over has its cookie,
// and nothing that needs one is committed after it.
func TestTimeoutHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := openEngine(t, sessile.Options{})
		defer e.Close()
		m, err := sessionhttp.New(e, sessionhttp.Options{})
		require.NoError(t, err)
		after := make(chan error, 1)
		serve := func(work func(s *sessionhttp.Session, r *http.Request)) *http.Response {
			w := httptest.NewRecorder()
			m.Handler(http.TimeoutHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				work(sessionhttp.From(r), r)
			}), time.Second, "too slow")).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
			return w.Result()
		}
		res := serve(func(s *sessionhttp.Session, r *http.Request) { require.NoError(t, s.Update(r.Context(), increment)) })
		require.Equal(t, http.StatusOK, res.StatusCode)
		require.Len(t, res.Cookies(), 1)
		res = serve(func(s *sessionhttp.Session, r *http.Request) {
			require.NoError(t, s.Update(r.Context(), increment))
			time.Sleep(2 * time.Second)
		})
		require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
		require.Len(t, res.Cookies(), 1)
		res = serve(func(s *sessionhttp.Session, r *http.Request) {
			time.Sleep(2 * time.Second)
			after <- s.Update(context.WithoutCancel(r.Context()), increment)
		})
		require.Equal(t, http.StatusServiceUnavailable, res.StatusCode)
		require.Empty(t, res.Cookies())
		require.ErrorIs(t, <-after, sessionhttp.ErrHeadersSent)
		require.EqualValues(t, 2, e.Stats().Sessions)
	})
}
