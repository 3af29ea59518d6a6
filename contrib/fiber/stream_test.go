package sessionfiber_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"
	"weak"

	"github.com/fasthttp/websocket"
	"github.com/gofiber/fiber/v3"
	"github.com/gofiber/fiber/v3/middleware/timeout"
	"github.com/sessile-go/sessile"
	sessionfiber "github.com/sessile-go/sessile/contrib/fiber"
	"github.com/sessile-go/sessile/sessionhttp"
	"github.com/stretchr/testify/require"
)

// A stream's writer runs when the handler has returned: it may Update, and can set no cookie.
func TestStream(t *testing.T) {
	read := make(chan struct{})
	each(t, func(r fiber.Router) {
		r.Get("/events", func(c fiber.Ctx) error {
			s := sessionfiber.From(c)
			if err := s.Ensure(c.Context()); err != nil {
				return err
			}
			c.Set("Content-Type", "text/event-stream")
			return c.SendStreamWriter(func(w *bufio.Writer) {
				fmt.Fprintln(w, "data:0")
				w.Flush()
				<-read // so the header has been sent
				fmt.Fprintln(w, "data:", s.Login(ctx, "ann", nil))
				for range 3 {
					if err := s.Update(ctx, increment); err != nil {
						panic(err)
					}
					n, err := sessile.Read(ctx, s, counter)
					if err != nil {
						panic(err)
					}
					fmt.Fprintf(w, "data:%d\n", n)
					w.Flush()
					<-read
				}
			})
		})
	}, func(t *testing.T, base string) {
		b := newBrowser(t, base)
		res, err := b.Get(base + "/events")
		require.NoError(t, err)
		defer res.Body.Close()
		requireCookie(t, res)
		lines := bufio.NewScanner(res.Body)
		for _, want := range []string{"data:0", fmt.Sprint("data: ", sessionhttp.ErrHeadersSent), "data:1", "data:2", "data:3"} {
			require.True(t, lines.Scan())
			require.Equal(t, want, lines.Text())
			if want[5] != ' ' {
				read <- struct{}{}
			}
		}
		require.False(t, lines.Scan())
		require.NoError(t, lines.Err())
		require.Equal(t, "3", b.ok("/n"))
		require.Equal(t, "", b.ok("/user"))
	})
}

// A writer that has no session is refused one when the header has gone.
func TestStreamWithoutSession(t *testing.T) {
	read := make(chan struct{})
	each(t, func(r fiber.Router) {
		r.Get("/events", func(c fiber.Ctx) error {
			s := sessionfiber.From(c)
			return c.SendStreamWriter(func(w *bufio.Writer) {
				fmt.Fprintln(w, "text")
				w.Flush()
				<-read
				fmt.Fprint(w, s.Update(ctx, increment))
			})
		})
	}, func(t *testing.T, base string) {
		b := newBrowser(t, base)
		res, err := b.Get(base + "/events")
		require.NoError(t, err)
		defer res.Body.Close()
		require.Empty(t, res.Header["Set-Cookie"])
		body := bufio.NewReader(res.Body)
		line, err := body.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "text\n", line)
		read <- struct{}{}
		rest, err := io.ReadAll(body)
		require.NoError(t, err)
		require.Equal(t, sessionhttp.ErrHeadersSent.Error(), string(rest))
	})
}

// Done is closed by a logout, by the end of the response, by a client that has gone, and by the context of the request.
func TestDone(t *testing.T) {
	_, m := newManager(t, sessionhttp.Options{})
	server, stop := context.WithCancel(ctx)
	defer stop()
	app := fiber.New()
	app.Use(func(c fiber.Ctx) error {
		if c.Path() == "/bound" {
			c.SetContext(server)
		}
		return c.Next()
	}, sessionfiber.Middleware(m))
	addRoutes(app)
	handles := make(chan *sessionhttp.Session, 1)
	app.Get("/short", func(c fiber.Ctx) error {
		s := sessionfiber.From(c)
		s.Done()
		handles <- s
		return s.Ensure(c.Context())
	})
	app.Get("/long", stream(handles, false))
	app.Get("/bound", stream(handles, false))
	app.Get("/chatty", stream(handles, true))
	base := serve(t, app)
	open := func(b *browser, path string) (*sessionhttp.Session, io.ReadCloser) {
		res, err := b.Get(base + path)
		require.NoError(t, err)
		t.Cleanup(func() { res.Body.Close() })
		_, err = io.ReadFull(res.Body, make([]byte, 5))
		require.NoError(t, err)
		s := <-handles
		select {
		case <-s.Done():
			t.Fatal("it goes on")
		default:
		}
		return s, res.Body
	}

	b := newBrowser(t, base)
	b.ok("/short")
	s := <-handles
	<-s.Done()
	require.NoError(t, s.Update(ctx, increment), "it is usable all the same")

	s, body := open(b, "/long")
	b.ok("/logout")
	<-s.Done()
	_, err := io.Copy(io.Discard, body)
	require.NoError(t, err, "the stream has ended")
	require.ErrorIs(t, s.Update(ctx, increment), sessile.ErrEnded)

	b = newBrowser(t, base)
	s, body = open(b, "/chatty")
	require.NoError(t, body.Close())
	<-s.Done()
	require.NoError(t, s.Update(ctx, increment))

	s, body = open(b, "/bound")
	stop()
	<-s.Done()
	_, err = io.Copy(io.Discard, body)
	require.NoError(t, err)
	require.NoError(t, s.Update(ctx, increment))
	require.Equal(t, "2", b.ok("/n"))
}

// stream is a handler that writes until its session's Done; or, chatty, until nobody reads.
func stream(handles chan<- *sessionhttp.Session, chatty bool) fiber.Handler {
	return func(c fiber.Ctx) error {
		s := sessionfiber.From(c)
		if err := s.Ensure(c.Context()); err != nil {
			return err
		}
		return c.SendStreamWriter(func(w *bufio.Writer) {
			s.Done()
			handles <- s
			fmt.Fprint(w, "text\n")
			for w.Flush() == nil && chatty {
				fmt.Fprint(w, ": still here\n\n")
			}
			<-s.Done()
		})
	}
}

// A websocket's upgrade carries the cookie; its handle lives until the socket closes or the session ends.
func TestSocket(t *testing.T) {
	handles := make(chan *sessionhttp.Session, 1)
	upgrader := websocket.FastHTTPUpgrader{}
	each(t, func(r fiber.Router) {
		r.Get("/socket", func(c fiber.Ctx) error {
			s := sessionfiber.From(c)
			if err := s.Ensure(c.Context()); err != nil {
				return err
			}
			return upgrader.Upgrade(c.RequestCtx(), func(conn *websocket.Conn) { serveSocket(conn, s, handles) })
		})
	}, func(t *testing.T, base string) {
		for _, logout := range []bool{true, false} {
			b := newBrowser(t, base)
			dialer := websocket.Dialer{Jar: b.Jar}
			conn, res, err := dialer.Dial("ws"+base[len("http"):]+"/socket", nil)
			require.NoError(t, err)
			defer conn.Close()
			requireCookie(t, res)
			_, message, err := conn.ReadMessage()
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint("1 ", sessionhttp.ErrHeadersSent), string(message))
			require.Equal(t, "1", b.ok("/n"))
			s := <-handles
			if logout {
				b.ok("/logout")
				_, _, err = conn.ReadMessage()
				require.True(t, websocket.IsCloseError(err, websocket.CloseGoingAway), err)
			} else {
				require.NoError(t, conn.Close())
			}
			<-s.Done()
			require.Equal(t, logout, s.Update(ctx, increment) != nil)
		}
	})
}

// serveSocket sends a message and then waits for the session's end, or the client's.
func serveSocket(conn *websocket.Conn, s *sessionhttp.Session, handles chan<- *sessionhttp.Session) {
	done := s.Done()
	handles <- s
	if err := s.Update(ctx, increment); err != nil {
		panic(err)
	}
	refused := s.Login(ctx, "ann", nil)
	if conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, "1 %v", refused)) != nil {
		return
	}
	var reader sync.WaitGroup
	gone := make(chan struct{})
	reader.Go(func() {
		defer close(gone)
		_, _, _ = conn.ReadMessage()
	})
	select {
	case <-done:
		_ = conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseGoingAway, "logged out"))
	case <-gone:
	}
	_ = conn.Close()
	reader.Wait()
}

// A handler that has timed out can set no cookie any more; one that was set before goes out with the 408.
func TestTimeout(t *testing.T) {
	handles, release := make(chan *sessionhttp.Session, 1), make(chan struct{})
	each(t, func(r fiber.Router) {
		r.Get("/slow", func(c fiber.Ctx) error {
			parent, end := context.WithCancel(c.Context())
			c.SetContext(parent)
			c.Locals("end", end)
			return c.Next()
		}, timeout.New(func(c fiber.Ctx) error {
			s, end := sessionfiber.From(c), fiber.Locals[context.CancelFunc](c, "end")
			s.Done()
			if err := s.Update(ctx, increment); err != nil {
				return err
			}
			handles <- s
			end() // the middleware waits for its context, and this comes sooner than the hour
			<-release
			return nil
		}, timeout.Config{Timeout: time.Hour}))
	}, func(t *testing.T, base string) {
		b := newBrowser(t, base)
		res, _ := b.do("GET", "/slow")
		require.Equal(t, http.StatusRequestTimeout, res.StatusCode)
		s := <-handles
		requireCookie(t, res)
		<-s.Done()
		require.ErrorIs(t, s.Login(ctx, "ann", nil), sessionhttp.ErrHeadersSent)
		require.NoError(t, s.Update(ctx, increment))
		release <- struct{}{}
		require.Equal(t, "2", b.ok("/n"))
	})
}

// A context that lives longer than its requests keeps nothing of them.
func TestContextKeepsNothing(t *testing.T) {
	_, m := newManager(t, sessionhttp.Options{})
	server, stop := context.WithCancel(ctx)
	defer stop()
	handles := make(chan weak.Pointer[sessionhttp.Session], 1)
	app := fiber.New()
	app.Use(func(c fiber.Ctx) error {
		c.SetContext(server)
		return c.Next()
	}, sessionfiber.Middleware(m))
	app.Get("/", func(c fiber.Ctx) error {
		s := sessionfiber.From(c)
		s.Done()
		handles <- weak.Make(s)
		return s.Ensure(c.Context())
	})
	b := newBrowser(t, serve(t, app))
	b.ok("/")
	handle := <-handles
	require.Eventually(t, func() bool {
		b.ok("/") // fasthttp's memory is used for another request
		<-handles
		runtime.GC()
		return handle.Value() == nil
	}, 30*time.Second, time.Millisecond)
}
