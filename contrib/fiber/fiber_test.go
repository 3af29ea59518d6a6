package sessionfiber_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/compress"
	"github.com/gofiber/fiber/v3/middleware/encryptcookie"
	"github.com/gofiber/fiber/v3/middleware/etag"
	recoverer "github.com/gofiber/fiber/v3/middleware/recover"
	"github.com/sessile-go/sessile"
	sessionfiber "github.com/sessile-go/sessile/contrib/fiber"
	"github.com/sessile-go/sessile/sessionhttp"
	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"
)

// ways are those of mounting: each test is tried with each.
var ways = map[string]func(m *sessionhttp.Manager, add func(fiber.Router)) *fiber.App{
	"Use": func(m *sessionhttp.Manager, add func(fiber.Router)) *fiber.App {
		app := fiber.New()
		app.Use(recoverer.New(), sessionfiber.Middleware(m))
		add(app)
		return app
	},
	"Group": func(m *sessionhttp.Manager, add func(fiber.Router)) *fiber.App {
		app := fiber.New(fiber.Config{Immutable: true, ReduceMemoryUsage: true})
		app.Use(recoverer.New())
		add(app.Group("/", sessionfiber.Middleware(m)))
		return app
	},
	"twice": func(m *sessionhttp.Manager, add func(fiber.Router)) *fiber.App {
		app := fiber.New(fiber.Config{PassLocalsToContext: true})
		app.Use(sessionfiber.Middleware(m), recoverer.New())
		add(app.Group("/", sessionfiber.Middleware(m)))
		return app
	},
	"inside of others": func(m *sessionhttp.Manager, add func(fiber.Router)) *fiber.App {
		app := fiber.New()
		streams := func(c fiber.Ctx) bool { return c.Path() == "/events" } // both hold it back
		app.Use(recoverer.New(), compress.New(compress.Config{Next: streams}), etag.New(etag.Config{Next: streams}), encryptcookie.New(encryptcookie.Config{
			Key: encryptcookie.GenerateKey(32), Except: []string{"id"},
		}), sessionfiber.Middleware(m))
		add(app)
		return app
	},
}

// serve runs the app on a port of its own until the test has ended.
func serve(t testing.TB, app *fiber.App) (base string) {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- app.Listener(ln, fiber.ListenConfig{DisableStartupMessage: true}) }()
	t.Cleanup(func() {
		require.NoError(t, app.Shutdown())
		require.NoError(t, <-served)
	})
	return "http://" + ln.Addr().String()
}

// each runs a test with a server for each way.
func each(t *testing.T, add func(fiber.Router), test func(t *testing.T, base string)) {
	for name, mount := range ways {
		t.Run(name, func(t *testing.T) {
			_, m := newManager(t, sessionhttp.Options{})
			test(t, serve(t, mount(m, func(r fiber.Router) {
				addRoutes(r)
				if add != nil {
					add(r)
				}
			})))
		})
	}
}

func addRoutes(r fiber.Router) {
	for path, do := range routes {
		r.Get(path, func(c fiber.Ctx) error {
			body, err := do(c.Context(), sessionfiber.From(c), c.Query("arg"))
			if err != nil {
				return fiber.NewError(sessionhttp.Status(err), err.Error())
			}
			return c.SendString(body)
		})
	}
}

func add(c fiber.Ctx) error { return sessionfiber.From(c).Update(c.Context(), increment) }

func TestRaces(t *testing.T)   { each(t, nil, tryRaces) }
func TestCookies(t *testing.T) { each(t, nil, tryCookies) }

// Whatever is answered, and whoever writes it, the cookie is in it.
func TestAnswers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file.txt")
	require.NoError(t, os.WriteFile(file, []byte("text"), 0o600))
	answers := map[string]struct {
		answer fiber.Handler
		status int
		body   string
	}{
		"nothing":   {func(fiber.Ctx) error { return nil }, 200, ""},
		"status":    {func(c fiber.Ctx) error { return c.SendStatus(204) }, 204, ""},
		"string":    {func(c fiber.Ctx) error { return c.Status(202).SendString("text") }, 202, "text"},
		"JSON":      {func(c fiber.Ctx) error { return c.JSON([]int{1}) }, 200, "[1]"},
		"redirect":  {func(c fiber.Ctx) error { return c.Redirect().Status(303).To("/n") }, 303, ""},
		"file":      {func(c fiber.Ctx) error { return c.SendFile(file) }, 200, "text"},
		"reader":    {func(c fiber.Ctx) error { return c.SendStream(strings.NewReader("text"), 4) }, 200, "text"},
		"error":     {func(fiber.Ctx) error { return io.ErrUnexpectedEOF }, 500, "unexpected EOF"},
		"HTTPError": {func(fiber.Ctx) error { return fiber.NewError(418, "short and stout") }, 418, "short and stout"},
		"next":      {func(c fiber.Ctx) error { return c.Next() }, 404, "Not Found"},
		"panic":     {func(fiber.Ctx) error { panic("a bug") }, 500, "a bug"},
		"restarted": {func(c fiber.Ctx) error { c.Path("/user"); return c.RestartRouting() }, 200, ""},
		"written first": {func(c fiber.Ctx) error {
			if err := c.SendString("text"); err != nil {
				return err
			}
			return sessionfiber.From(c).Login(c.Context(), "ann", nil)
		}, 200, "text"},
		"ended": {func(c fiber.Ctx) error {
			sessionfiber.WriteCookies(c)
			if err := sessionfiber.From(c).Login(c.Context(), "ann", nil); err != sessionhttp.ErrHeadersSent {
				panic(err)
			}
			return c.SendStatus(202)
		}, 202, "Accepted"},
	}
	each(t, func(r fiber.Router) {
		for name, a := range answers {
			r.Get("/answers/"+strings.ReplaceAll(name, " ", "-"), func(c fiber.Ctx) error {
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
				res, body := b.do(method, "/answers/"+strings.ReplaceAll(name, " ", "-"))
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

// c.End sends the header before the handler returns.
func TestEnd(t *testing.T) {
	each(t, func(r fiber.Router) {
		r.Get("/end", func(c fiber.Ctx) error {
			if err := add(c); err != nil {
				return err
			}
			sessionfiber.WriteCookies(c)
			return c.End()
		})
	}, func(t *testing.T, base string) {
		b := newBrowser(t, base)
		res, _ := b.do("GET", "/end")
		requireCookie(t, res)
		require.Equal(t, "1", b.ok("/n"))
	})
}

// A wrong path, a wrong method and a HEAD are answered as without sessions.
func TestOtherAnswers(t *testing.T) {
	each(t, nil, func(t *testing.T, base string) {
		b := newBrowser(t, base)
		for want, request := range map[int][2]string{
			http.StatusNotFound: {"GET", "/nowhere"}, http.StatusMethodNotAllowed: {"POST", "/n"}, http.StatusOK: {"HEAD", "/n"},
		} {
			res, _ := b.do(request[0], request[1])
			require.Equal(t, want, res.StatusCode)
			require.Empty(t, res.Header["Set-Cookie"])
		}
	})
}

// Clear-Site-Data goes with the logout's cookie, and each Manager's cookie with its own.
func TestTwoManagers(t *testing.T) {
	_, one := newManager(t, sessionhttp.Options{ClearSiteData: `"cache"`})
	_, two := newManager(t, sessionhttp.Options{CookieName: "two", Partitioned: false})
	app := fiber.New()
	outer := func(c fiber.Ctx) error {
		c.Locals("outer", sessionfiber.From(c))
		return c.Next()
	}
	app.Use(sessionfiber.Middleware(one), outer, sessionfiber.Middleware(two), sessionfiber.Middleware(one))
	do := func(use func(s *sessionhttp.Session, ctx context.Context) error) fiber.Handler {
		return func(c fiber.Ctx) error {
			return errors.Join(use(fiber.Locals[*sessionhttp.Session](c, "outer"), c), use(sessionfiber.From(c), c.Context()))
		}
	}
	app.Get("/ensure", do((*sessionhttp.Session).Ensure))
	app.Get("/logout", do((*sessionhttp.Session).Logout))
	app.Get("/early", do((*sessionhttp.Session).Ensure), func(c fiber.Ctx) error { return nil })
	b := newBrowser(t, serve(t, app))
	names := func(res *http.Response) (names []string) {
		require.Equal(t, http.StatusOK, res.StatusCode)
		for _, c := range res.Cookies() {
			names = append(names, c.Name)
		}
		return names
	}
	res, _ := b.do("GET", "/ensure")
	require.ElementsMatch(t, []string{"id", "two"}, names(res))
	require.Empty(t, res.Header["Clear-Site-Data"])
	res, _ = b.do("GET", "/logout")
	require.ElementsMatch(t, []string{"id", "two"}, names(res))
	require.Equal(t, `"cache"`, res.Header.Get("Clear-Site-Data"))
}

// The cookie has all its attributes.
func TestCookie(t *testing.T) {
	e, err := sessile.Open(sessile.Options{InMemory: true})
	require.NoError(t, err)
	defer e.Close()
	m, err := sessionhttp.New(e, sessionhttp.Options{SameSite: http.SameSiteNoneMode, Partitioned: true})
	require.NoError(t, err)
	app := fiber.New()
	app.Use(sessionfiber.Middleware(m))
	app.Get("/", func(c fiber.Ctx) error {
		c.Set("Cache-Control", "public")
		return add(c)
	})
	res, err := app.Test(httptest.NewRequest("GET", "/", nil))
	require.NoError(t, err)
	require.Equal(t, "no-store", res.Header.Get("Cache-Control"))
	_, attributes, _ := strings.Cut(res.Header.Get("Set-Cookie"), ";")
	require.Equal(t, " Path=/; Max-Age=2592000; HttpOnly; Secure; SameSite=None; Partitioned", attributes)
}

// Header names are in any case, also where fasthttp leaves them as they came, and cookies in any number of headers.
func TestHeaderNames(t *testing.T) {
	_, m := newManager(t, sessionhttp.Options{})
	cookie, err := m.Issue(ctx, "ann", nil)
	require.NoError(t, err)
	for _, raw := range []bool{false, true} {
		app := fiber.New(fiber.Config{DisableHeaderNormalizing: raw})
		app.Use(sessionfiber.Middleware(m))
		addRoutes(app)
		addr := strings.TrimPrefix(serve(t, app), "http://")
		for header, status := range map[string]int{
			"cookie: id=" + cookie.Value:                                         http.StatusOK,
			"COOKIE:id=" + cookie.Value:                                          http.StatusOK,
			"Cookie: a=b\r\nX-Cookie: id=c\r\nCookie: id=" + cookie.Value:        http.StatusOK,
			"Cookie: id=" + cookie.Value + "\r\ncookie: id=" + cookie.Value:      http.StatusUnauthorized,
			"Cookie: id=" + cookie.Value + "; a=b; id":                           http.StatusUnauthorized,
			"Cookie: id=\"" + cookie.Value + "\"":                                http.StatusUnauthorized,
			"Cookie: id=" + cookie.Value + "\r\nX-Fold: a\r\n Cookie: id=" + "b": http.StatusOK,
		} {
			conn, err := net.Dial("tcp", addr)
			require.NoError(t, err)
			fmt.Fprintf(conn, "GET /user HTTP/1.1\r\nHost: x\r\n%s\r\nConnection: close\r\n\r\n", header)
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err)
			require.Equal(t, status, res.StatusCode, header)
			require.NoError(t, res.Body.Close())
			require.NoError(t, conn.Close())
		}
	}
}

// A request that was put together by a test, and not read from a connection, has its cookies too.
func TestUnparsedRequest(t *testing.T) {
	_, m := newManager(t, sessionhttp.Options{})
	cookie, err := m.Issue(ctx, "ann", nil)
	require.NoError(t, err)
	app := fiber.New()
	app.Use(sessionfiber.Middleware(m))
	addRoutes(app)
	for header, status := range map[string]int{
		"id=" + cookie.Value:                          http.StatusOK,
		"id=" + cookie.Value + "; id=" + cookie.Value: http.StatusUnauthorized,
	} {
		var c fasthttp.RequestCtx
		c.Request.Header.SetMethod("GET")
		c.Request.SetRequestURI("/user")
		c.Request.Header.Set("Cookie", header)
		app.Handler()(&c)
		require.Equal(t, status, c.Response.StatusCode())
	}
}

// The engine's errors are answered with their status; without Middleware there is an error, and no panic.
func TestErrors(t *testing.T) {
	e, m := newManager(t, sessionhttp.Options{})
	cookie, err := m.Issue(ctx, "ann", nil)
	require.NoError(t, err)
	var caught error
	app := fiber.New(fiber.Config{ErrorHandler: func(c fiber.Ctx, err error) error {
		caught = err
		return fiber.DefaultErrorHandler(c, err)
	}})
	addRoutes(app.Group("/in", sessionfiber.Middleware(m)))
	app.Get("/free", add)
	var late fiber.Ctx
	app.Get("/late", func(c fiber.Ctx) error { late = c; return nil })
	request := func(path string) int {
		r := httptest.NewRequest("GET", path, nil)
		r.AddCookie(cookie)
		res, err := app.Test(r)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		return res.StatusCode
	}
	require.Equal(t, http.StatusOK, request("/in/user"))
	require.Equal(t, http.StatusInternalServerError, request("/free"))
	require.ErrorIs(t, caught, sessionhttp.ErrNoHandler)
	require.Equal(t, http.StatusOK, request("/late"))
	require.ErrorIs(t, sessionfiber.From(late).Ensure(ctx), sessionhttp.ErrNoHandler)
	sessionfiber.WriteCookies(late)
	require.NoError(t, e.Close())
	require.Equal(t, http.StatusServiceUnavailable, request("/in/user"))
	require.ErrorIs(t, caught, sessile.ErrClosed)
}

// fasthttp's memory is used again for the next request; what a session was given is not.
func TestMemory(t *testing.T) {
	e, m := newManager(t, sessionhttp.Options{})
	app := fiber.New()
	app.Use(sessionfiber.Middleware(m))
	addRoutes(app)
	base := serve(t, app)
	users := []string{"anna", "bert", "carl", "dora"}
	browsers := map[string]*browser{}
	one := newBrowser(t, base) // one connection, and so one buffer
	for _, user := range users {
		b := newBrowser(t, base)
		b.Transport = one.Transport
		b.ok("/login?arg=" + user)
		b.ok("/set?arg=key-" + user)
		browsers[user] = b
	}
	for _, user := range users {
		require.Equal(t, user, browsers[user].ok("/user"))
		n := 0
		for info, err := range e.ByUser(ctx, user) {
			require.NoError(t, err)
			n++
			require.NoError(t, e.View(ctx, info.ID, func(tx sessile.Txn) error {
				_, ok := tx.Peek("key-" + user)
				require.True(t, ok)
				return nil
			}))
		}
		require.Equal(t, 1, n)
	}
}

// A login that is overtaken by the response is refused, and leaves nothing.
func TestOverlap(t *testing.T) {
	inside, sent, result := make(chan struct{}), make(chan struct{}), make(chan error)
	each(t, func(r fiber.Router) {
		r.Get("/overlap", func(c fiber.Ctx) error {
			s := sessionfiber.From(c)
			go func() {
				result <- s.Login(ctx, "ann", func(sessile.Txn) error {
					inside <- struct{}{}
					<-sent
					return nil
				})
			}()
			<-inside
			return nil
		})
	}, func(t *testing.T, base string) {
		b := newBrowser(t, base)
		b.ok("/ensure")
		b.ok("/overlap")
		sent <- struct{}{}
		require.ErrorIs(t, <-result, sessionhttp.ErrHeadersSent)
		require.Equal(t, "", b.ok("/user"))
	})
}

// A handler may use its session from several goroutines while it writes, and after it has returned.
func TestGoroutines(t *testing.T) {
	var all sync.WaitGroup
	each(t, func(r fiber.Router) {
		r.Get("/both", func(c fiber.Ctx) error {
			s := sessionfiber.From(c)
			for range 2 {
				all.Go(func() {
					if err := s.Login(ctx, "ann", nil); err != nil && err != sessionhttp.ErrHeadersSent {
						panic(err)
					}
				})
			}
			c.Set("X-Test", "1")
			c.Cookie(&fiber.Cookie{Name: "test", Value: "1"})
			return c.SendString("text")
		})
	}, func(t *testing.T, base string) {
		for range 50 {
			b := newBrowser(t, base)
			b.do("GET", "/both")
			user := ""
			if b.token() != "" {
				user = "ann"
			}
			require.Equal(t, user, b.ok("/user"), "a login stands if and only if its cookie was sent")
		}
		all.Wait()
	})
}
