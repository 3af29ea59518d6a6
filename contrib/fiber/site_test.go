package sessionfiber_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/sessionhttp"
	"github.com/stretchr/testify/require"
)

var (
	ctx     = context.Background()
	counter = sessile.NewKey[int64]("n")
)

func increment(tx sessile.Txn) error {
	_, err := sessile.Add(tx, counter, 1)
	return err
}

// routes are what each site answers: what a handler does with its session and the query's arg, whatever the framework.
var routes = map[string]func(ctx context.Context, s *sessionhttp.Session, arg string) (body string, err error){
	"/add": func(ctx context.Context, s *sessionhttp.Session, _ string) (string, error) {
		return "", s.Update(ctx, increment)
	},
	"/n": func(ctx context.Context, s *sessionhttp.Session, _ string) (string, error) {
		n, err := sessile.Read(ctx, s, counter)
		return fmt.Sprint(n), err
	},
	"/set": func(ctx context.Context, s *sessionhttp.Session, key string) (string, error) {
		return "", s.Update(ctx, func(tx sessile.Txn) error { return tx.Set(key, []byte("x")) })
	},
	"/keys": func(ctx context.Context, s *sessionhttp.Session, _ string) (body string, err error) {
		err = s.View(ctx, func(tx sessile.Txn) error { body = fmt.Sprint(tx.Len()); return nil })
		return body, err
	},
	"/ensure": func(ctx context.Context, s *sessionhttp.Session, _ string) (string, error) { return "", s.Ensure(ctx) },
	"/login": func(ctx context.Context, s *sessionhttp.Session, user string) (string, error) {
		return "", s.Login(ctx, user, nil)
	},
	"/logout": func(ctx context.Context, s *sessionhttp.Session, _ string) (string, error) { return "", s.Logout(ctx) },
	"/user":   func(ctx context.Context, s *sessionhttp.Session, _ string) (string, error) { return s.User(ctx) },
}

func newManager(t testing.TB, opt sessionhttp.Options) (*sessile.Engine, *sessionhttp.Manager) {
	t.Helper()
	e, err := sessile.Open(sessile.Options{InMemory: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	opt.Insecure = true
	m, err := sessionhttp.New(e, opt)
	require.NoError(t, err)
	return e, m
}

// A browser has a cookie jar, and goes to one site.
type browser struct {
	t    testing.TB
	base string
	http.Client
}

func newBrowser(t testing.TB, base string) *browser {
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	b := &browser{t: t, base: base, Client: http.Client{
		Jar: jar, Transport: &http.Transport{MaxIdleConnsPerHost: 16},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	t.Cleanup(b.CloseIdleConnections)
	return b
}

// do sends a request and reads the whole answer.
func (b *browser) do(method, path string) (*http.Response, string) {
	b.t.Helper()
	req, err := http.NewRequest(method, b.base+path, nil)
	require.NoError(b.t, err)
	return b.send(req)
}

func (b *browser) send(req *http.Request) (*http.Response, string) {
	b.t.Helper()
	res, err := b.Do(req)
	require.NoError(b.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(b.t, err)
	return res, strings.TrimSpace(string(body))
}

func (b *browser) get(path string) (status int, body string) {
	b.t.Helper()
	res, body := b.do("GET", path)
	return res.StatusCode, body
}

func (b *browser) ok(path string) string {
	b.t.Helper()
	status, body := b.get(path)
	require.Equal(b.t, http.StatusOK, status, body)
	return body
}

func (b *browser) token() string {
	u, err := url.Parse(b.base)
	require.NoError(b.t, err)
	for _, c := range b.Jar.Cookies(u) {
		if c.Name == "id" {
			return c.Value
		}
	}
	return ""
}

// raw sends a Cookie header as it is, and answers the status.
func (b *browser) raw(path, cookie string) int {
	b.t.Helper()
	req, err := http.NewRequest("GET", b.base+path, nil)
	require.NoError(b.t, err)
	req.Header.Set("Cookie", cookie)
	res, err := b.Transport.RoundTrip(req)
	require.NoError(b.t, err)
	require.NoError(b.t, res.Body.Close())
	return res.StatusCode
}

// requireCookie says that the answer sets the session's cookie, once, and is not cached.
func requireCookie(t testing.TB, res *http.Response) {
	t.Helper()
	require.Len(t, res.Header["Set-Cookie"], 1)
	require.True(t, strings.HasPrefix(res.Header.Get("Set-Cookie"), "id="))
	require.Equal(t, "no-store", res.Header.Get("Cache-Control"))
}

// parallel makes n calls from 16 goroutines.
func parallel(n int, call func(i int)) {
	var (
		wg   sync.WaitGroup
		next atomic.Int64
	)
	for range 16 {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				call(i)
			}
		})
	}
	wg.Wait()
}

// tryRaces says that requests of one cookie lose nothing of each other's.
func tryRaces(t *testing.T, base string) {
	b := newBrowser(t, base)
	b.ok("/ensure")
	status := make([]int, 500)
	parallel(len(status), func(i int) { status[i] = b.raw("/add", "id="+b.token()) })
	for _, code := range status {
		require.Equal(t, http.StatusOK, code)
	}
	require.Equal(t, "500", b.ok("/n"))

	b = newBrowser(t, base)
	b.ok("/ensure")
	parallel(200, func(i int) { status[i] = b.raw(fmt.Sprint("/set?arg=", i), "id="+b.token()) })
	for _, code := range status[:200] {
		require.Equal(t, http.StatusOK, code)
	}
	require.Equal(t, "200", b.ok("/keys"))
}

// tryCookies says that a session is made lazily, a login renews its cookie, a logout ends it, and dead, doubled and quoted
// tokens prove nothing and set nothing.
func tryCookies(t *testing.T, base string) {
	b := newBrowser(t, base)
	require.Equal(t, "0", b.ok("/n"))
	require.Empty(t, b.token())
	res, _ := b.do("GET", "/add")
	requireCookie(t, res)
	anonymous := b.token()
	res, _ = b.do("GET", "/add")
	require.Empty(t, res.Header["Set-Cookie"])
	require.Empty(t, res.Header["Cache-Control"])
	require.Equal(t, "", b.ok("/user"))

	res, _ = b.do("GET", "/login?arg=ann")
	requireCookie(t, res)
	token := b.token()
	require.NotEqual(t, anonymous, token)
	require.Equal(t, "ann", b.ok("/user"))
	require.Equal(t, "2", b.ok("/n"), "the login keeps what there was")
	require.Equal(t, http.StatusUnauthorized, b.raw("/n", "id="+anonymous))
	require.Equal(t, http.StatusOK, b.raw("/n", "a=b; id="+token))
	require.Equal(t, http.StatusUnauthorized, b.raw("/n", "id="+token+"; id="+token))
	require.Equal(t, http.StatusUnauthorized, b.raw("/n", `id="`+token+`"`))

	res, _ = b.do("GET", "/logout")
	requireCookie(t, res)
	require.Empty(t, b.token())
	require.Equal(t, http.StatusUnauthorized, b.raw("/add", "id="+token))
	require.Equal(t, http.StatusUnauthorized, b.raw("/ensure", "id="+token))
	require.Equal(t, "0", b.ok("/n"))
}
