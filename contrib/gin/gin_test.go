package sessiongin_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	sessiongin "github.com/sessile-go/sessile/contrib/gin"
	"github.com/sessile-go/sessile/sessionhttp"
	"github.com/stretchr/testify/require"
)

func init() { gin.SetMode(gin.TestMode) }

// ways are those of mounting: each test is tried with each.
var ways = map[string]func(m *sessionhttp.Manager, add func(gin.IRouter)) http.Handler{
	"whole": func(m *sessionhttp.Manager, add func(gin.IRouter)) http.Handler {
		r := newEngine()
		add(r)
		return m.Handler(r)
	},
	"Use": func(m *sessionhttp.Manager, add func(gin.IRouter)) http.Handler {
		r := newEngine()
		r.Use(sessiongin.Middleware(m))
		add(r)
		return r
	},
	"Group": func(m *sessionhttp.Manager, add func(gin.IRouter)) http.Handler {
		r := newEngine()
		add(r.Group("/", sessiongin.Middleware(m)))
		return r
	},
	"Recovery inside": func(m *sessionhttp.Manager, add func(gin.IRouter)) http.Handler {
		r := gin.New()
		add(r.Group("/", sessiongin.Middleware(m), gin.RecoveryWithWriter(nil)))
		return r
	},
	"twice": func(m *sessionhttp.Manager, add func(gin.IRouter)) http.Handler {
		r := newEngine()
		r.Use(sessiongin.Middleware(m))
		add(r.Group("/", sessiongin.Middleware(m)))
		return r
	},
	"whole and Group": func(m *sessionhttp.Manager, add func(gin.IRouter)) http.Handler {
		r := newEngine()
		add(r.Group("/", sessiongin.Middleware(m)))
		return m.Handler(r)
	},
}

func newEngine() *gin.Engine {
	r := gin.New()
	r.HandleMethodNotAllowed = true
	r.Use(gin.RecoveryWithWriter(nil))
	return r
}

// each runs a test with a server for each way.
func each(t *testing.T, add func(gin.IRouter), test func(t *testing.T, base string)) {
	for name, mount := range ways {
		t.Run(name, func(t *testing.T) {
			_, m := newManager(t, sessionhttp.Options{})
			srv := httptest.NewServer(mount(m, func(r gin.IRouter) {
				addRoutes(r)
				if add != nil {
					add(r)
				}
			}))
			defer srv.Close()
			test(t, srv.URL)
		})
	}
}

func addRoutes(r gin.IRouter) {
	for path, do := range routes {
		r.GET(path, func(c *gin.Context) {
			body, err := do(c.Request.Context(), sessiongin.From(c), c.Query("arg"))
			if err != nil {
				body = err.Error()
			}
			c.String(sessionhttp.Status(err), "%s", body)
		})
	}
}

func TestRaces(t *testing.T)   { each(t, nil, tryRaces) }
func TestCookies(t *testing.T) { each(t, nil, tryCookies) }

func TestEvents(t *testing.T) {
	read := events(make(chan struct{}))
	each(t, func(r gin.IRouter) {
		r.GET("/events", func(c *gin.Context) {
			s, n := sessiongin.From(c), int64(0)
			if err := s.Ensure(c.Request.Context()); err != nil {
				panic(err)
			}
			c.Stream(func(io.Writer) bool {
				if n > 0 {
					<-read
				}
				if n == 3 {
					return false
				}
				n++
				if err := s.Update(c.Request.Context(), increment); err != nil {
					panic(err)
				}
				c.SSEvent("", n)
				return true
			})
		})
	}, func(t *testing.T, base string) { tryEvents(t, base, read) })
}

func TestSocket(t *testing.T) {
	each(t, func(r gin.IRouter) {
		r.GET("/socket", func(c *gin.Context) { serveSocket(c.Writer, c.Request) })
	}, trySocket)
}

func TestHijack(t *testing.T) {
	each(t, func(r gin.IRouter) {
		r.GET("/hijack", func(c *gin.Context) { serveHijack(c.Writer, c.Request) })
	}, tryHijack)
}

// Whatever way the header goes out, the cookie is in it.
func TestAnswers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file.txt")
	require.NoError(t, os.WriteFile(file, []byte("text"), 0o600))
	answers := map[string]struct {
		handlers gin.HandlersChain
		status   int
		body     string
	}{
		"status alone": {gin.HandlersChain{add, func(c *gin.Context) { c.Status(http.StatusNoContent) }}, 204, ""},
		"status first": {gin.HandlersChain{func(c *gin.Context) { c.Status(http.StatusCreated) }, add}, 201, ""},
		"nothing":      {gin.HandlersChain{add}, 200, ""},
		"String":       {gin.HandlersChain{add, func(c *gin.Context) { c.String(202, "text") }}, 202, "text"},
		"WriteString":  {gin.HandlersChain{add, func(c *gin.Context) { _, _ = c.Writer.WriteString("text") }}, 200, "text"},
		"JSON":         {gin.HandlersChain{add, func(c *gin.Context) { c.JSON(200, gin.H{"a": 1}) }}, 200, `{"a":1}`},
		"Redirect":     {gin.HandlersChain{add, func(c *gin.Context) { c.Redirect(http.StatusSeeOther, "/n") }}, 303, `<a href="/n">See Other</a>.`},
		"File":         {gin.HandlersChain{add, func(c *gin.Context) { c.File(file) }}, 200, "text"},
		"not modified": {gin.HandlersChain{add, func(c *gin.Context) {
			c.Request.Header.Set("If-Modified-Since", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
			c.File(file)
		}}, 304, ""},
		"no such file": {gin.HandlersChain{add, func(c *gin.Context) { c.File(file + "x") }}, 404, "404 page not found"},
		"Abort":        {gin.HandlersChain{add, func(c *gin.Context) { c.AbortWithStatus(403) }, func(*gin.Context) { panic("it was aborted") }}, 403, ""},
		"Abort first":  {gin.HandlersChain{func(c *gin.Context) { c.Next(); c.AbortWithStatus(403) }, add}, 403, ""},
		"Flush":        {gin.HandlersChain{add, func(c *gin.Context) { c.Writer.Flush() }}, 200, ""},
		"Controller":   {gin.HandlersChain{add, func(c *gin.Context) { _ = http.NewResponseController(c.Writer).Flush() }}, 200, ""},
		"header now":   {gin.HandlersChain{add, func(c *gin.Context) { c.Status(418); c.Writer.WriteHeaderNow() }}, 418, ""},
		"early hints": {gin.HandlersChain{func(c *gin.Context) { c.Status(103); c.Writer.WriteHeaderNow() }, add, func(c *gin.Context) {
			_, _ = c.Writer.Write([]byte("text"))
		}}, 200, "text"},
		"panic":         {gin.HandlersChain{add, func(*gin.Context) { panic("a bug") }}, 500, ""},
		"reader":        {gin.HandlersChain{add, func(c *gin.Context) { c.DataFromReader(200, 4, "text/plain", bytes.NewReader([]byte("text")), nil) }}, 200, "text"},
		"written later": {gin.HandlersChain{func(c *gin.Context) { c.Next(); c.String(409, c.Errors.String()) }, add, func(c *gin.Context) { _ = c.Error(io.ErrUnexpectedEOF) }}, 409, "Error #01: unexpected EOF"},
	}
	paths := map[string]string{}
	for name := range answers {
		paths[name] = fmt.Sprint("/answers/", len(paths))
	}
	each(t, func(r gin.IRouter) {
		for name, a := range answers {
			r.GET(paths[name], a.handlers...)
		}
	}, func(t *testing.T, base string) {
		for name, a := range answers {
			b := newBrowser(t, base)
			res, body := b.do("GET", paths[name])
			require.Equal(t, a.status, res.StatusCode, name)
			require.Equal(t, a.body, body, name)
			requireCookie(t, res)
			require.Equal(t, "1", b.ok("/n"), name)
		}
	})
}

func add(c *gin.Context) {
	if err := sessiongin.From(c).Update(c.Request.Context(), increment); err != nil {
		panic(err)
	}
}

func TestOverlap(t *testing.T) {
	each(t, func(r gin.IRouter) {
		r.GET("/overlap", func(c *gin.Context) { serveOverlap(c.Writer, c.Request) })
	}, tryOverlap)
}

// After the header what needs a cookie is refused, and nothing is changed.
func TestHeadersSent(t *testing.T) {
	each(t, func(r gin.IRouter) {
		r.GET("/late", func(c *gin.Context) {
			c.String(http.StatusAccepted, "text ")
			c.String(-1, "%v", sessiongin.From(c).Update(c.Request.Context(), increment) == sessionhttp.ErrHeadersSent)
		})
	}, func(t *testing.T, base string) {
		b := newBrowser(t, base)
		res, body := b.do("GET", "/late")
		require.Equal(t, "text true", body)
		require.Empty(t, res.Header["Set-Cookie"])
		require.Equal(t, "0", b.ok("/n"))
	})
}

// A HEAD, a wrong path and a wrong method are answered as without sessions.
func TestOtherAnswers(t *testing.T) {
	each(t, func(r gin.IRouter) {
		r.HEAD("/add", add)
	}, func(t *testing.T, base string) {
		b := newBrowser(t, base)
		res, body := b.do("HEAD", "/add")
		require.Equal(t, http.StatusOK, res.StatusCode)
		require.Empty(t, body)
		requireCookie(t, res)
		require.Equal(t, "1", b.ok("/n"))
		res, body = b.do("GET", "/nowhere")
		require.Equal(t, http.StatusNotFound, res.StatusCode)
		require.Equal(t, "404 page not found", body)
		require.Empty(t, res.Header["Set-Cookie"])
	})

	_, m := newManager(t, sessionhttp.Options{})
	r := newEngine()
	r.Use(sessiongin.Middleware(m))
	addRoutes(r)
	r.NoRoute(add)
	srv := httptest.NewServer(r)
	defer srv.Close()
	b := newBrowser(t, srv.URL)
	res, body := b.do("GET", "/nowhere")
	require.Equal(t, http.StatusNotFound, res.StatusCode)
	require.Equal(t, "404 page not found", body)
	requireCookie(t, res)
	res, body = b.do("POST", "/n")
	require.Equal(t, http.StatusMethodNotAllowed, res.StatusCode)
	require.Equal(t, "405 method not allowed", body)
	require.Equal(t, "1", b.ok("/n"))
}

// HandleContext starts again with gin's own writer.
func TestHandleContext(t *testing.T) {
	_, m := newManager(t, sessionhttp.Options{})
	r := newEngine()
	group := r.Group("/", sessiongin.Middleware(m))
	addRoutes(group)
	again := func(path string, write bool) gin.HandlerFunc {
		return func(c *gin.Context) {
			c.Request.URL.Path = path
			if write {
				sessiongin.From(c).WriteCookies(c.Writer.Header())
			}
			r.HandleContext(c)
			c.Abort()
		}
	}
	group.GET("/inside", add, again("/add", false))
	group.GET("/outside", add, again("/free", true))
	group.GET("/first", again("/add", false))
	group.GET("/alone", add, func(c *gin.Context) { c.Status(http.StatusNoContent) })
	group.GET("/to-alone", again("/alone", false))
	r.GET("/free", func(c *gin.Context) {
		err := sessiongin.From(c).Login(c.Request.Context(), "ann", nil)
		c.String(http.StatusOK, "%v", err == sessionhttp.ErrHeadersSent)
	})
	for name, handler := range map[string]http.Handler{"group": r, "whole": m.Handler(r)} {
		srv := httptest.NewServer(handler)
		for path, want := range map[string]struct {
			status  int
			body, n string
		}{"/inside": {200, "", "2"}, "/outside": {200, "true", "1"}, "/first": {200, "", "1"}, "/to-alone": {204, "", "1"}} {
			b := newBrowser(t, srv.URL)
			res, body := b.do("GET", path)
			require.Equal(t, want.status, res.StatusCode, name+path)
			require.Equal(t, want.body, body, name+path)
			requireCookie(t, res)
			require.Equal(t, want.n, b.ok("/n"), name+path)
		}
		srv.Close()
	}
}

// A handler may use its session from several goroutines while it writes.
func TestGoroutines(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		for name, mount := range ways {
			_, m := newManager(t, sessionhttp.Options{})
			srv := httptest.NewUnstartedServer(mount(m, func(r gin.IRouter) {
				addRoutes(r)
				r.GET("/both", loginWhileWriting)
			}))
			srv.EnableHTTP2 = http2
			srv.StartTLS()
			for range 20 {
				b := newBrowser(t, srv.URL)
				b.Transport = srv.Client().Transport
				res, _ := b.do("GET", "/both")
				require.Equal(t, http2, res.ProtoMajor == 2)
				user := ""
				if b.token() != "" {
					requireCookie(t, res)
					user = "ann"
				}
				require.Equal(t, user, b.ok("/user"), "%s: a login stands if and only if its cookie was sent", name)
			}
			srv.Close()
		}
	}
}

func loginWhileWriting(c *gin.Context) {
	s := sessiongin.From(c)
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			if err := s.Login(c.Request.Context(), "ann", nil); err != nil && err != sessionhttp.ErrHeadersSent {
				panic(err)
			}
		})
	}
	c.Header("X-Test", "1")
	c.Data(http.StatusOK, "text/plain", bytes.Repeat([]byte("x"), 10_000))
	both.Wait()
}

// Without Middleware there is an error, and no panic.
func TestNoHandler(t *testing.T) {
	c, r := gin.CreateTestContext(httptest.NewRecorder())
	require.ErrorIs(t, sessiongin.From(c).Update(ctx, increment), sessionhttp.ErrNoHandler)
	addRoutes(r)
	srv := httptest.NewServer(r)
	defer srv.Close()
	status, body := newBrowser(t, srv.URL).get("/add")
	require.Equal(t, http.StatusInternalServerError, status)
	require.Equal(t, sessionhttp.ErrNoHandler.Error(), body)
}
