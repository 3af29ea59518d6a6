package sessionchi_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/sessile-go/sessile/sessionhttp"
	"github.com/stretchr/testify/require"
)

// ways are those of mounting: each test is tried with each.
var ways = map[string]func(m *sessionhttp.Manager, add func(chi.Router)) http.Handler{
	"whole": func(m *sessionhttp.Manager, add func(chi.Router)) http.Handler {
		r := chi.NewRouter()
		r.Use(middleware.Recoverer, middleware.GetHead)
		add(r)
		return m.Handler(r)
	},
	"Use": func(m *sessionhttp.Manager, add func(chi.Router)) http.Handler {
		r := chi.NewRouter()
		r.Use(middleware.RequestID, middleware.Compress(5, "text/html"), middleware.Timeout(time.Minute), middleware.Recoverer, m.Handler, middleware.GetHead)
		add(r)
		return r
	},
	"Group": func(m *sessionhttp.Manager, add func(chi.Router)) http.Handler {
		r := chi.NewRouter()
		r.Use(middleware.Recoverer, middleware.GetHead)
		r.Group(func(r chi.Router) {
			r.Use(m.Handler, middleware.Timeout(time.Minute))
			add(r)
		})
		return r
	},
	"twice": func(m *sessionhttp.Manager, add func(chi.Router)) http.Handler {
		r := chi.NewRouter()
		r.Use(m.Handler, middleware.Recoverer, middleware.GetHead)
		r.Mount("/", func() http.Handler {
			sub := chi.NewRouter()
			sub.Use(m.Handler)
			add(sub)
			return sub
		}())
		return r
	},
}

// each runs a test with a server for each way.
func each(t *testing.T, add func(chi.Router), test func(t *testing.T, base string)) {
	for name, mount := range ways {
		t.Run(name, func(t *testing.T) {
			_, m := newManager(t, sessionhttp.Options{})
			srv := httptest.NewServer(quiet(mount(m, func(r chi.Router) {
				addRoutes(r)
				if add != nil {
					add(r)
				}
			})))
			defer srv.Close()
			test(t, srv.URL)
		})
	}
}

func addRoutes(r chi.Router) {
	for path, do := range routes {
		r.Get(path, func(w http.ResponseWriter, r *http.Request) {
			body, err := do(r.Context(), sessionhttp.From(r), r.FormValue("arg"))
			if err != nil {
				http.Error(w, err.Error(), sessionhttp.Status(err))
				return
			}
			fmt.Fprint(w, body)
		})
	}
}

func TestRaces(t *testing.T)   { each(t, nil, tryRaces) }
func TestCookies(t *testing.T) { each(t, nil, tryCookies) }

func TestEvents(t *testing.T) {
	read := events(make(chan struct{}))
	each(t, func(r chi.Router) {
		r.Get("/events", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			err := serveEvents(sessionhttp.From(r), r.Context(), read, func(n int64) {
				fmt.Fprintf(w, "data:%d\n\n", n)
				_ = http.NewResponseController(w).Flush()
			})
			if err != nil {
				panic(err)
			}
		})
	}, func(t *testing.T, base string) { tryEvents(t, base, read) })
}

func TestSocket(t *testing.T) {
	each(t, func(r chi.Router) { r.Get("/socket", serveSocket) }, trySocket)
}

func TestHijack(t *testing.T) {
	each(t, func(r chi.Router) { r.Get("/hijack", serveHijack) }, tryHijack)
}

func TestOverlap(t *testing.T) {
	each(t, func(r chi.Router) { r.Get("/overlap", serveOverlap) }, tryOverlap)
}

// After the header what needs a cookie is refused, and nothing is changed.
func TestHeadersSent(t *testing.T) {
	each(t, func(r chi.Router) {
		r.Get("/late", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusAccepted)
			fmt.Fprint(w, sessionhttp.From(r).Update(r.Context(), increment) == sessionhttp.ErrHeadersSent)
		})
	}, func(t *testing.T, base string) {
		b := newBrowser(t, base)
		res, body := b.do("GET", "/late")
		require.Equal(t, "true", body)
		require.Empty(t, res.Header["Set-Cookie"])
		require.Equal(t, "0", b.ok("/n"))
	})
}

// A handler that panics has its cookie sent by the Recoverer's answer.
func TestPanic(t *testing.T) {
	each(t, func(r chi.Router) {
		r.Get("/panic", func(w http.ResponseWriter, r *http.Request) {
			if err := sessionhttp.From(r).Update(r.Context(), increment); err != nil {
				return
			}
			panic("a bug")
		})
	}, func(t *testing.T, base string) {
		b := newBrowser(t, base)
		res, _ := b.do("GET", "/panic")
		require.Equal(t, http.StatusInternalServerError, res.StatusCode)
		requireCookie(t, res)
		require.Equal(t, "1", b.ok("/n"), "what was committed stands")
	})
}

// quiet takes Recoverer's stack traces off the terminal.
func quiet(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, middleware.WithLogEntry(r, discard{}))
	})
}

type discard struct{}

func (discard) Write(int, int, http.Header, time.Duration, any) {}
func (discard) Panic(any, []byte)                               {}

// A HEAD that GetHead routes, a wrong path and a wrong method are answered as without sessions.
func TestOtherAnswers(t *testing.T) {
	each(t, nil, func(t *testing.T, base string) {
		b := newBrowser(t, base)
		res, body := b.do("HEAD", "/add")
		require.Equal(t, http.StatusOK, res.StatusCode)
		require.Empty(t, body)
		requireCookie(t, res)
		require.Equal(t, "1", b.ok("/n"))
		for want, request := range map[int][2]string{
			http.StatusNotFound: {"GET", "/nowhere"}, http.StatusMethodNotAllowed: {"POST", "/n"},
		} {
			res, _ := b.do(request[0], request[1])
			require.Equal(t, want, res.StatusCode)
			require.Empty(t, res.Header["Set-Cookie"])
		}
	})
}

// A handler may use its session from several goroutines while it writes.
func TestGoroutines(t *testing.T) {
	each(t, func(r chi.Router) {
		r.Get("/both", func(w http.ResponseWriter, r *http.Request) {
			s := sessionhttp.From(r)
			var both sync.WaitGroup
			for range 2 {
				both.Go(func() {
					err := s.Login(r.Context(), "ann", nil)
					if err != nil && err != sessionhttp.ErrHeadersSent {
						panic(err)
					}
				})
			}
			w.Header().Set("X-Test", "1")
			_, _ = w.Write(bytes.Repeat([]byte("x"), 10_000))
			both.Wait()
		})
	}, func(t *testing.T, base string) {
		for range 20 {
			b := newBrowser(t, base)
			res, _ := b.do("GET", "/both")
			require.LessOrEqual(t, len(res.Header["Set-Cookie"]), 1)
			user := ""
			if b.token() != "" {
				user = "ann"
			}
			require.Equal(t, user, b.ok("/user"), "a login stands if and only if its cookie was sent")
		}
	})
}
