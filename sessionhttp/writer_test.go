package sessionhttp_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/sessionhttp"
	"github.com/stretchr/testify/require"
)

func setCounter(n *int) func(*http.Cookie) { return func(*http.Cookie) { *n++ } }

// Server-sent events: each is there when it was flushed, and the session is used all the while.
func TestServerSentEvents(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		e := openEngine(t, sessile.Options{})
		m, err := sessionhttp.New(e, sessionhttp.Options{})
		require.NoError(t, err)
		next := make(chan struct{})
		srv := httptest.NewUnstartedServer(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s := sessionhttp.From(r)
			require.NoError(t, s.Ensure(r.Context()))
			w.Header().Set("Content-Type", "text/event-stream")
			for range 3 {
				require.NoError(t, s.Update(r.Context(), increment))
				n, err := sessile.Read(r.Context(), s, counter)
				require.NoError(t, err)
				fmt.Fprintf(w, "data: %d\n", n)
				require.NoError(t, http.NewResponseController(w).Flush())
				<-next
			}
		})))
		srv.EnableHTTP2 = http2
		srv.StartTLS()
		res, err := srv.Client().Get(srv.URL)
		require.NoError(t, err)
		require.Equal(t, http2, res.ProtoMajor == 2)
		require.Len(t, res.Header["Set-Cookie"], 1)
		lines := bufio.NewScanner(res.Body)
		for i := range 3 {
			require.True(t, lines.Scan())
			require.Equal(t, fmt.Sprint("data: ", i+1), lines.Text())
			next <- struct{}{}
		}
		require.NoError(t, res.Body.Close())
		srv.Close()
	}
}

// A hijacked connection outlives its request, and its handle with it.
func TestHijack(t *testing.T) {
	s := newSite(t, sessionhttp.Options{})
	sockets := make(chan *sessionhttp.Session, 2)
	s.mux.HandleFunc("/socket", func(w http.ResponseWriter, r *http.Request) {
		session := sessionhttp.From(r)
		require.NoError(t, session.Ensure(r.Context()))
		header := http.Header{}
		session.WriteCookies(header)
		done := session.Done()
		conn, _, err := w.(http.Hijacker).Hijack()
		require.NoError(t, err)
		fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: test\r\nConnection: Upgrade\r\n")
		require.NoError(t, header.Write(conn))
		fmt.Fprint(conn, "\r\nhello\n")
		go func() {
			<-done
			conn.Close()
		}()
		sockets <- session
	})
	dial := func(cookie string) (*http.Response, *bufio.Reader) {
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		require.NoError(t, err)
		t.Cleanup(func() { conn.Close() })
		fmt.Fprintf(conn, "GET /socket HTTP/1.1\r\nHost: x\r\nUpgrade: test\r\nConnection: Upgrade\r\nCookie: %s\r\n\r\n", cookie)
		in := bufio.NewReader(conn)
		res, err := http.ReadResponse(in, nil)
		require.NoError(t, err)
		line, err := in.ReadString('\n')
		require.NoError(t, err)
		require.Equal(t, "hello\n", line)
		return res, in
	}
	res, in := dial("a=b")
	require.Len(t, res.Cookies(), 1)
	session := <-sockets
	require.NoError(t, session.Update(ctx, increment), "with a ctx of its own")
	require.ErrorIs(t, session.Login(ctx, "ann", nil), sessionhttp.ErrHeadersSent)
	token := "id=" + res.Cookies()[0].Value
	require.Equal(t, http.StatusOK, s.raw("/n", token).StatusCode)
	require.Equal(t, http.StatusOK, s.raw("/logout", token).StatusCode)
	_, err := in.ReadByte()
	require.ErrorIs(t, err, io.EOF, "the socket ends with the session")

	_, in = dial("a=b")
	session = <-sockets
	session.Close()
	_, err = in.ReadByte()
	require.ErrorIs(t, err, io.EOF)
	require.NoError(t, session.Update(ctx, increment))
}

// Done of a handle that has no session yet waits for one; the handle's own logins do not close it.
func TestDone(t *testing.T) {
	e := openEngine(t, sessile.Options{})
	m, err := sessionhttp.New(e, sessionhttp.Options{})
	require.NoError(t, err)
	n := 0
	s, err := m.Open(ctx, nil, setCounter(&n))
	require.NoError(t, err)
	done := s.Done()
	require.NoError(t, s.Update(ctx, increment))
	require.NoError(t, s.Login(ctx, "ann", nil))
	require.NoError(t, s.Update(ctx, increment))
	require.NoError(t, s.Login(ctx, "bob", nil))
	require.NoError(t, s.Update(ctx, increment))
	require.Equal(t, 3, n)
	select {
	case <-done:
		t.Fatal("it is still good")
	default:
	}
	require.NoError(t, s.Logout(ctx))
	<-done
	require.Equal(t, 4, n)

	e2 := openEngine(t, sessile.Options{})
	m, err = sessionhttp.New(e2, sessionhttp.Options{})
	require.NoError(t, err)
	s, err = m.Open(ctx, nil, setCounter(&n))
	require.NoError(t, err)
	require.NoError(t, s.Ensure(ctx))
	done = s.Done()
	require.NoError(t, e2.Close())
	<-done
	_, err = m.Open(ctx, []string{"__Host-id=a." + strings.Repeat("A", 43)}, nil)
	require.ErrorIs(t, err, sessile.ErrClosed)
}

// Code outside the Handler may answer when it has returned, as echo does.
func TestOuterCodeAnswers(t *testing.T) {
	e := openEngine(t, sessile.Options{})
	m, err := sessionhttp.New(e, sessionhttp.Options{})
	require.NoError(t, err)
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var inner http.ResponseWriter
		m.Handler(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			inner = w
			require.NoError(t, sessionhttp.From(r).Update(r.Context(), increment))
		}))).ServeHTTP(w, r)
		http.Error(inner, "an error", http.StatusTeapot)
	}))
	defer srv.Close()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	client := http.Client{Jar: jar, Transport: srv.Client().Transport}
	for i := range 2 {
		res, err := client.Get(srv.URL)
		require.NoError(t, err)
		require.NoError(t, res.Body.Close())
		require.Equal(t, http.StatusTeapot, res.StatusCode)
		require.Len(t, res.Header["Set-Cookie"], 1-i)
	}
	require.EqualValues(t, 1, e.Stats().Sessions)
}

func TestWait(t *testing.T) {
	e := openEngine(t, sessile.Options{})
	m, err := sessionhttp.New(e, sessionhttp.Options{})
	require.NoError(t, err)
	n := 0
	s, err := m.Open(ctx, nil, setCounter(&n))
	require.NoError(t, err)
	waits := func(after uint64) chan sessile.Info {
		got := make(chan sessile.Info, 1)
		go func() {
			info, _ := s.Wait(ctx, after)
			got <- info
		}()
		return got
	}
	made := waits(0)
	require.NoError(t, s.Update(ctx, increment))
	first := <-made
	require.NotZero(t, first.Version)
	again, err := s.Wait(ctx, 0)
	require.NoError(t, err)
	require.Equal(t, first.Version, again.Version)
	next := waits(first.Version)
	require.NoError(t, s.Login(ctx, "ann", nil))
	require.Equal(t, "ann", (<-next).User)
	ended := make(chan error)
	version := func() uint64 { i, _ := s.Wait(ctx, 0); return i.Version }()
	go func() {
		_, err := s.Wait(ctx, version)
		ended <- err
	}()
	require.NoError(t, s.Logout(ctx))
	require.ErrorIs(t, <-ended, sessile.ErrEnded)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	s, err = m.Open(ctx, nil, nil)
	require.NoError(t, err)
	_, err = s.Wait(gone, 0)
	require.ErrorIs(t, err, context.Canceled)
}
