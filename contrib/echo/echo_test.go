package sessionecho_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/labstack/echo/v5"
	"github.com/labstack/echo/v5/middleware"
	"github.com/sessile-go/sessile/sessionhttp"
	"github.com/stretchr/testify/require"
)

// ways are those of mounting a Manager's Handler: each test is tried with each.
var ways = map[string]func(handler func(http.Handler) http.Handler, e *echo.Echo, add func(*echo.Group)) http.Handler{
	"whole": func(handler func(http.Handler) http.Handler, e *echo.Echo, add func(*echo.Group)) http.Handler {
		e.Use(middleware.Recover())
		add(e.Group(""))
		return handler(e)
	},
	"Use": func(handler func(http.Handler) http.Handler, e *echo.Echo, add func(*echo.Group)) http.Handler {
		e.Use(middleware.RequestID(), gzip, middleware.ContextTimeout(time.Minute), middleware.Recover(), echo.WrapMiddleware(handler))
		add(e.Group(""))
		return e
	},
	"Group": func(handler func(http.Handler) http.Handler, e *echo.Echo, add func(*echo.Group)) http.Handler {
		e.Use(middleware.Recover())
		add(e.Group("", echo.WrapMiddleware(handler)))
		return e
	},
	"Recover inside": func(handler func(http.Handler) http.Handler, e *echo.Echo, add func(*echo.Group)) http.Handler {
		add(e.Group("", echo.WrapMiddleware(handler), middleware.ContextTimeout(time.Minute), middleware.Recover()))
		return e
	},
	"whole and Group": func(handler func(http.Handler) http.Handler, e *echo.Echo, add func(*echo.Group)) http.Handler {
		e.Use(middleware.Recover())
		add(e.Group("", echo.WrapMiddleware(handler)))
		return handler(e)
	},
}

// gzip lets upgrades pass, because echo's keeps the status of one.
var gzip = middleware.GzipWithConfig(middleware.GzipConfig{
	Skipper: func(c *echo.Context) bool { return c.IsWebSocket() },
})

func newEcho() *echo.Echo {
	return echo.NewWithConfig(echo.Config{
		Logger: slog.New(slog.DiscardHandler),
		Router: echo.NewRouter(echo.RouterConfig{AutoHandleHEAD: true}),
	})
}

// each runs a test with a server for each way.
func each(t *testing.T, add func(*echo.Group), test func(t *testing.T, base string)) {
	for name, mount := range ways {
		t.Run(name, func(t *testing.T) {
			_, m := newManager(t, sessionhttp.Options{})
			srv := httptest.NewServer(mount(m.Handler, newEcho(), func(g *echo.Group) {
				addRoutes(g)
				if add != nil {
					add(g)
				}
			}))
			defer srv.Close()
			test(t, srv.URL)
		})
	}
}

func addRoutes(g *echo.Group) {
	for path, do := range routes {
		g.GET(path, func(c *echo.Context) error {
			body, err := do(c.Request().Context(), sessionhttp.From(c.Request()), c.QueryParam("arg"))
			if err != nil {
				return echo.NewHTTPError(sessionhttp.Status(err), "no session").Wrap(err)
			}
			return c.String(http.StatusOK, body)
		})
	}
}

func add(c *echo.Context) error {
	return sessionhttp.From(c.Request()).Update(c.Request().Context(), increment)
}

func TestRaces(t *testing.T)   { each(t, nil, tryRaces) }
func TestCookies(t *testing.T) { each(t, nil, tryCookies) }

func TestEvents(t *testing.T) {
	read := events(make(chan struct{}))
	each(t, func(g *echo.Group) {
		g.GET("/events", func(c *echo.Context) error {
			w := c.Response()
			w.Header().Set(echo.HeaderContentType, "text/event-stream")
			return serveEvents(sessionhttp.From(c.Request()), c.Request().Context(), read, func(n int64) {
				fmt.Fprintf(w, "data:%d\n\n", n)
				_ = http.NewResponseController(w).Flush()
			})
		})
	}, func(t *testing.T, base string) { tryEvents(t, base, read) })
}

func TestSocket(t *testing.T) {
	each(t, func(g *echo.Group) {
		g.GET("/socket", func(c *echo.Context) error {
			serveSocket(c.Response(), c.Request())
			return nil
		})
	}, trySocket)
}

func TestHijack(t *testing.T) {
	each(t, func(g *echo.Group) {
		g.GET("/hijack", func(c *echo.Context) error {
			serveHijack(c.Response(), c.Request())
			return nil
		})
	}, tryHijack)
}

// Whatever way the header goes out, the cookie is in it: also by the error handler, after the handler has returned.
func TestAnswers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file.txt")
	require.NoError(t, os.WriteFile(file, []byte("text"), 0o600))
	answers := map[string]struct {
		answer echo.HandlerFunc
		status int
		body   string
	}{
		"NoContent": {func(c *echo.Context) error { return c.NoContent(http.StatusNoContent) }, 204, ""},
		"nothing":   {func(*echo.Context) error { return nil }, 200, ""},
		"String":    {func(c *echo.Context) error { return c.String(202, "text") }, 202, "text"},
		"JSON":      {func(c *echo.Context) error { return c.JSON(200, []int{1}) }, 200, "[1]"},
		"Redirect":  {func(c *echo.Context) error { return c.Redirect(http.StatusSeeOther, "/n") }, 303, ""},
		"Stream":    {func(c *echo.Context) error { return c.Stream(200, "text/plain", bytes.NewReader([]byte("text"))) }, 200, "text"},
		"File":      {func(c *echo.Context) error { return c.FileFS("file.txt", os.DirFS(filepath.Dir(file))) }, 200, "text"},
		"error":     {func(*echo.Context) error { return io.ErrUnexpectedEOF }, 500, `{"message":"Internal Server Error"}`},
		"HTTPError": {func(*echo.Context) error { return echo.NewHTTPError(418, "short and stout") }, 418, `{"message":"short and stout"}`},
		"panic":     {func(*echo.Context) error { panic("a bug") }, 500, `{"message":"Internal Server Error"}`},
	}
	each(t, func(g *echo.Group) {
		for name, a := range answers {
			g.GET("/answers/"+name, func(c *echo.Context) error {
				if err := add(c); err != nil {
					return err
				}
				return a.answer(c)
			})
		}
	}, func(t *testing.T, base string) {
		for name, a := range answers {
			for _, method := range []string{"GET", "HEAD"} {
				b := newBrowser(t, base)
				res, body := b.do(method, "/answers/"+name)
				require.Equal(t, a.status, res.StatusCode, name)
				if method == "GET" {
					require.Equal(t, a.body, body, name)
				}
				requireCookie(t, res)
				require.Equal(t, "1", b.ok("/n"), name)
			}
		}
	})
}

// An error handler has the session: of the whole server, to make one; of a group, if there is one.
func TestErrorHandler(t *testing.T) {
	for name, mount := range ways {
		_, m := newManager(t, sessionhttp.Options{})
		e := newEcho()
		e.HTTPErrorHandler = func(c *echo.Context, _ error) {
			r := c.Request()
			err := sessionhttp.From(r).Update(context.WithoutCancel(r.Context()), increment) // ContextTimeout has ended it
			_ = c.String(http.StatusTeapot, fmt.Sprint(errors.Is(err, sessionhttp.ErrHeadersSent)))
		}
		srv := httptest.NewServer(mount(m.Handler, e, func(g *echo.Group) {
			addRoutes(g)
			g.GET("/fail", func(c *echo.Context) error { return io.ErrUnexpectedEOF })
		}))
		b := newBrowser(t, srv.URL)
		res, body := b.do("GET", "/fail")
		require.Equal(t, http.StatusTeapot, res.StatusCode)
		if name == "whole" || name == "whole and Group" {
			require.Equal(t, "false", body)
			requireCookie(t, res)
		} else {
			require.Equal(t, "true", body, name)
			require.Empty(t, res.Header["Set-Cookie"])
			b.ok("/add")
		}
		_, body = b.do("GET", "/fail")
		require.Equal(t, "false", body)
		require.Equal(t, "2", b.ok("/n"))
		srv.Close()
	}
}

func TestOverlap(t *testing.T) {
	each(t, func(g *echo.Group) {
		g.GET("/overlap", func(c *echo.Context) error {
			serveOverlap(c.Response(), c.Request())
			return nil
		})
	}, tryOverlap)
}

// After the header what needs a cookie is refused, and nothing is changed.
func TestHeadersSent(t *testing.T) {
	each(t, func(g *echo.Group) {
		g.GET("/late", func(c *echo.Context) error {
			if err := c.String(http.StatusAccepted, "text "); err != nil {
				return err
			}
			_, err := fmt.Fprint(c.Response(), add(c) == sessionhttp.ErrHeadersSent)
			return err
		})
	}, func(t *testing.T, base string) {
		b := newBrowser(t, base)
		res, body := b.do("GET", "/late")
		require.Equal(t, "text true", body)
		require.Empty(t, res.Header["Set-Cookie"])
		require.Equal(t, "0", b.ok("/n"))
	})
}

// A wrong path and a wrong method are answered as without sessions.
func TestNotFound(t *testing.T) {
	for name, mount := range ways {
		_, m := newManager(t, sessionhttp.Options{})
		with := httptest.NewServer(mount(m.Handler, newEcho(), addRoutes))
		without := httptest.NewServer(mount(func(next http.Handler) http.Handler { return next }, newEcho(), addRoutes))
		for method, path := range map[string]string{"GET": "/nowhere", "POST": "/n"} {
			res, body := newBrowser(t, with.URL).do(method, path)
			want, wantBody := newBrowser(t, without.URL).do(method, path)
			require.GreaterOrEqual(t, res.StatusCode, 400, name)
			require.Equal(t, want.StatusCode, res.StatusCode, name)
			require.Equal(t, wantBody, body, name)
			require.Equal(t, want.Header["Allow"], res.Header["Allow"], name)
			require.Empty(t, res.Header["Set-Cookie"])
		}
		with.Close()
		without.Close()
	}
}

// A handler may use its session from several goroutines while it writes.
func TestGoroutines(t *testing.T) {
	each(t, func(g *echo.Group) {
		g.GET("/both", func(c *echo.Context) error {
			s := sessionhttp.From(c.Request())
			var both sync.WaitGroup
			defer both.Wait()
			for range 2 {
				both.Go(func() {
					if err := s.Login(c.Request().Context(), "ann", nil); err != nil && err != sessionhttp.ErrHeadersSent {
						panic(err)
					}
				})
			}
			c.Response().Header().Set("X-Test", "1")
			return c.Blob(http.StatusOK, "text/plain", bytes.Repeat([]byte("x"), 10_000))
		})
	}, func(t *testing.T, base string) {
		for range 20 {
			b := newBrowser(t, base)
			res, _ := b.do("GET", "/both")
			user := ""
			if b.token() != "" {
				requireCookie(t, res)
				user = "ann"
			}
			require.Equal(t, user, b.ok("/user"), "a login stands if and only if its cookie was sent")
		}
	})
}
