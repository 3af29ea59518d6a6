package sessionchi_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/coder/websocket"
	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/sessionhttp"
	"github.com/stretchr/testify/require"
)

// What the client sees of streams and sockets, whatever the framework.

// events tells a stream when the client has read an event.
type events chan struct{}

// tryEvents reads three events, each of which must be there before the next is made; the session's cookie comes first.
func tryEvents(t *testing.T, base string, read events) {
	b := newBrowser(t, base)
	res, err := b.Get(base + "/events")
	require.NoError(t, err)
	defer res.Body.Close()
	requireCookie(t, res)
	require.Contains(t, res.Header.Get("Content-Type"), "text/event-stream")
	lines := bufio.NewScanner(res.Body)
	for i := range 3 {
		var line string
		for line == "" && lines.Scan() {
			line = lines.Text()
		}
		require.Equal(t, fmt.Sprint("data:", i+1), line)
		read <- struct{}{}
	}
	_, err = io.Copy(io.Discard, res.Body)
	require.NoError(t, err)
	require.Equal(t, "3", b.ok("/n"))
}

// serveEvents makes them; flush sends what was written.
func serveEvents(s *sessionhttp.Session, ctx context.Context, read events, send func(n int64)) error {
	if err := s.Ensure(ctx); err != nil {
		return err
	}
	for n := range int64(3) {
		if err := s.Update(ctx, increment); err != nil {
			return err
		}
		send(n + 1)
		<-read
	}
	return nil
}

// trySocket opens a websocket that has made a session, and ends it by a logout elsewhere.
func trySocket(t *testing.T, base string) {
	b := newBrowser(t, base)
	c, res, err := websocket.Dial(ctx, base+"/socket", &websocket.DialOptions{HTTPClient: &b.Client})
	require.NoError(t, err)
	defer c.CloseNow()
	requireCookie(t, res)
	_, message, err := c.Read(ctx)
	require.NoError(t, err)
	require.Equal(t, "1 true", string(message), "it commits, and can set no cookie")
	require.Equal(t, "1", b.ok("/n"))
	b.ok("/logout")
	_, _, err = c.Read(ctx)
	require.Equal(t, websocket.StatusGoingAway, websocket.CloseStatus(err), err)
}

// serveSocket is the server's end.
func serveSocket(w http.ResponseWriter, r *http.Request) {
	s := sessionhttp.From(r)
	if err := s.Ensure(r.Context()); err != nil {
		http.Error(w, err.Error(), sessionhttp.Status(err))
		return
	}
	c, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer s.Close()
	defer c.CloseNow()
	if s.Update(ctx, increment) != nil {
		return
	}
	refused := s.Login(ctx, "ann", nil) == sessionhttp.ErrHeadersSent
	if c.Write(ctx, websocket.MessageText, fmt.Appendf(nil, "1 %v", refused)) != nil {
		return
	}
	<-s.Done()
	_ = c.Close(websocket.StatusGoingAway, "logged out")
}

// tryHijack upgrades as libraries do that ignore the writer's header, and give one of their own.
func tryHijack(t *testing.T, base string) {
	b := newBrowser(t, base)
	conn, err := net.Dial("tcp", base[len("http://"):])
	require.NoError(t, err)
	defer conn.Close()
	fmt.Fprint(conn, "GET /hijack HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: test\r\n\r\n")
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	require.NoError(t, err)
	requireCookie(t, res)
	line, err := in.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "hello\n", line)
	require.Equal(t, http.StatusOK, b.raw("/logout", "id="+res.Cookies()[0].Value))
	rest, err := io.ReadAll(in)
	require.NoError(t, err)
	require.Equal(t, "ended: true", string(rest), "it ends with the session, not with the request")
}

func serveHijack(w http.ResponseWriter, r *http.Request) {
	s := sessionhttp.From(r)
	header := http.Header{}
	if err := s.Ensure(r.Context()); err != nil {
		http.Error(w, err.Error(), sessionhttp.Status(err))
		return
	}
	s.WriteCookies(header)
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: test\r\nConnection: Upgrade\r\n")
	_ = header.Write(conn)
	fmt.Fprint(conn, "\r\nhello\n")
	go func() {
		defer conn.Close()
		defer s.Close()
		<-s.Done()
		fmt.Fprint(conn, "ended: ", errors.Is(s.View(ctx, nil), sessile.ErrEnded))
	}()
}

// tryOverlap says that a login which is overtaken by the response's header is refused, and leaves nothing.
func tryOverlap(t *testing.T, base string) {
	b := newBrowser(t, base)
	b.ok("/ensure")
	token := b.token()
	res, body := b.do("GET", "/overlap")
	require.Equal(t, "text "+sessionhttp.ErrHeadersSent.Error(), body)
	require.Empty(t, res.Header["Set-Cookie"])
	require.Equal(t, http.StatusOK, b.raw("/n", "id="+token), "the token is the one that it was")
	require.Equal(t, "", b.ok("/user"))
}

func serveOverlap(w http.ResponseWriter, r *http.Request) {
	inside, sent, result := make(chan struct{}), make(chan struct{}), make(chan error)
	s := sessionhttp.From(r)
	go func() {
		result <- s.Login(r.Context(), "ann", func(sessile.Txn) error {
			close(inside)
			<-sent
			return nil
		})
	}()
	<-inside
	fmt.Fprint(w, "text ")
	_ = http.NewResponseController(w).Flush()
	close(sent)
	fmt.Fprint(w, <-result)
}
