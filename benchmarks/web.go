package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/sessionhttp"
)

// A WebRow is one way of having sessions in a handler of net/http.
type WebRow struct {
	Name   string  `json:"name"`
	PerOp  Sample  `json:"ns_per_request"`
	Allocs float64 `json:"allocs_per_request"`
	Lost   int64   `json:"lost"` // of webIncrements
	Counts bool    `json:"counts"`
}

const (
	webIncrements = 500
	webClients    = 16
	webWork       = 5 * time.Millisecond // in each handler that increments, as for a query
)

// A webStack is a handler with two routes: /read reads the session's counter, /add works a while and raises it.
type webStack struct {
	name    string
	handler http.Handler
	counts  bool
	close   func() error
}

// webJob measures the cost of requests that only read the session, handlers called directly, and what overlapping
// requests of one browser lose, over a connection.
func webJob(ctx context.Context, a jobArgs) (any, error) {
	stacks, err := webStacks(a.Dir)
	defer func() {
		for _, s := range stacks {
			_ = s.close()
		}
	}()
	if err != nil {
		return nil, err
	}
	var rows []WebRow
	var sides []*timed
	var costs []*webCost
	for _, s := range stacks {
		c, err := newWebCost(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		costs = append(costs, c)
		sides = append(sides, &timed{run: c.run})
	}
	perOp, err := interleave(ctx, a.Scale.Rounds, a.Scale.Slice, sides...)
	if err != nil {
		return nil, err
	}
	for i, s := range stacks {
		row := WebRow{Name: s.name, PerOp: sampleOf(perOp[i]), Counts: s.counts}
		if row.Allocs, err = costs[i].allocs(); err != nil {
			return nil, err
		}
		if s.counts {
			if row.Lost, err = webLoss(ctx, s); err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// webRoutes makes a stack's handler of what it does on each route. read and add return the counter.
func webRoutes(read, add func(w http.ResponseWriter, r *http.Request) (int, error)) http.Handler {
	mux := http.NewServeMux()
	answer := func(fn func(http.ResponseWriter, *http.Request) (int, error)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			n, err := fn(w, r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			w.Header().Set("X-Count", fmt.Sprint(n))
		}
	}
	// What is read is not sent, so that the stacks differ in the session alone.
	mux.HandleFunc("/read", func(w http.ResponseWriter, r *http.Request) {
		if _, err := read(w, r); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("/count", answer(read))
	mux.HandleFunc("/add", answer(func(w http.ResponseWriter, r *http.Request) (int, error) { return add(w, r) }))
	return mux
}

func webStacks(dir string) (stacks []webStack, err error) {
	nothing := func(http.ResponseWriter, *http.Request) (int, error) { return 0, nil }
	none := func() error { return nil }
	stacks = append(stacks, webStack{"net/http alone, no session", webRoutes(nothing, nothing), false, none})

	ours, err := sessileStack(filepath.Join(dir, "sessile"))
	if err != nil {
		return stacks, err
	}
	stacks = append(stacks, ours, scsStack())
	key := securecookie.GenerateRandomKey(32)
	stacks = append(stacks, gorillaStack("gorilla, cookie store", sessions.NewCookieStore(key)))
	files := filepath.Join(dir, "gorilla")
	if err := mkdir(files); err != nil {
		return stacks, err
	}
	return append(stacks, gorillaStack("gorilla, file store", sessions.NewFilesystemStore(files, key))), nil
}

func sessileStack(dir string) (webStack, error) {
	e, err := sessile.Open(sessile.Options{Dir: dir})
	if err != nil {
		return webStack{}, err
	}
	m, err := sessionhttp.New(e, sessionhttp.Options{Insecure: true})
	if err != nil {
		return webStack{}, errors.Join(err, e.Close())
	}
	read := func(_ http.ResponseWriter, r *http.Request) (n int, err error) {
		err = sessionhttp.From(r).View(r.Context(), func(tx sessile.Txn) error {
			v, err := counter.Get(tx)
			n = int(v)
			return err
		})
		return n, err
	}
	add := func(_ http.ResponseWriter, r *http.Request) (n int, err error) {
		work(r)
		err = sessionhttp.From(r).Update(r.Context(), func(tx sessile.Txn) error {
			v, err := sessile.Add(tx, counter, 1)
			n = int(v)
			return err
		})
		return n, err
	}
	return webStack{"sessionhttp", m.Handler(webRoutes(read, add)), true, e.Close}, nil
}

func scsStack() webStack {
	m := scs.New()
	read := func(_ http.ResponseWriter, r *http.Request) (int, error) {
		return m.GetInt(r.Context(), "counter"), nil
	}
	add := func(_ http.ResponseWriter, r *http.Request) (int, error) {
		n := m.GetInt(r.Context(), "counter") + 1
		work(r)
		m.Put(r.Context(), "counter", n)
		return n, nil
	}
	return webStack{"scs, memstore", m.LoadAndSave(webRoutes(read, add)), true, func() error { return nil }}
}

func gorillaStack(name string, store sessions.Store) webStack {
	get := func(r *http.Request) (*sessions.Session, int, error) {
		s, err := store.Get(r, "session")
		if err != nil {
			return nil, 0, err
		}
		n, _ := s.Values["counter"].(int)
		return s, n, nil
	}
	read := func(_ http.ResponseWriter, r *http.Request) (int, error) {
		_, n, err := get(r)
		return n, err
	}
	add := func(w http.ResponseWriter, r *http.Request) (int, error) {
		s, n, err := get(r)
		if err != nil {
			return 0, err
		}
		work(r)
		s.Values["counter"] = n + 1
		return n + 1, s.Save(r, w)
	}
	return webStack{name, webRoutes(read, add), true, func() error { return nil }}
}

// work takes as long as a query, unless the request says that it is the first.
func work(r *http.Request) {
	if r.URL.RawQuery == "" {
		time.Sleep(webWork)
	}
}

// A webCost calls a stack's handler with the cookie that a browser got.
type webCost struct {
	handler http.Handler
	request *http.Request
}

func newWebCost(s webStack) (*webCost, error) {
	first := httptest.NewRecorder()
	s.handler.ServeHTTP(first, httptest.NewRequest("POST", "/add?first", nil))
	if first.Code != http.StatusOK {
		return nil, fmt.Errorf("status %d: %s", first.Code, first.Body)
	}
	c := &webCost{handler: s.handler, request: httptest.NewRequest("GET", "/read", nil)}
	for _, cookie := range first.Result().Cookies() {
		c.request.AddCookie(cookie)
	}
	check := httptest.NewRecorder()
	count := httptest.NewRequest("GET", "/count", nil)
	count.Header = c.request.Header
	s.handler.ServeHTTP(check, count)
	if want := "1"; s.counts && check.Header().Get("X-Count") != want {
		return nil, fmt.Errorf("the session counts %q, want %s: status %d", check.Header().Get("X-Count"), want, check.Code)
	}
	return c, nil
}

// blank is a response that costs nothing.
type blank struct {
	header http.Header
	status int
}

func (b *blank) Header() http.Header         { return b.header }
func (b *blank) Write(p []byte) (int, error) { return len(p), nil }
func (b *blank) WriteHeader(status int)      { b.status = status }

// run makes n requests, each with a copy of its own, as a server makes it.
func (c *webCost) run(_, n int) error {
	for range n {
		w := &blank{header: http.Header{}}
		c.handler.ServeHTTP(w, c.request.WithContext(context.Background()))
		if w.status >= 400 {
			return fmt.Errorf("status %d", w.status)
		}
	}
	return nil
}

func (c *webCost) allocs() (float64, error) {
	const n = 2000
	if err := c.run(0, 100); err != nil {
		return 0, err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	err := c.run(0, n)
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / n, err
}

// webLoss has one browser send increments that overlap, and returns how many are missing.
func webLoss(ctx context.Context, s webStack) (int64, error) {
	server := httptest.NewServer(s.handler)
	defer server.Close()
	jar, err := cookiejar.New(nil)
	if err != nil {
		return 0, err
	}
	client := &http.Client{Jar: jar, Transport: &http.Transport{MaxIdleConnsPerHost: webClients}}
	defer client.CloseIdleConnections()
	get := func(path string) (string, error) {
		r, err := http.NewRequestWithContext(ctx, "GET", server.URL+path, nil)
		if err != nil {
			return "", err
		}
		res, err := client.Do(r)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return "", fmt.Errorf("%s: status %d", path, res.StatusCode)
		}
		return res.Header.Get("X-Count"), nil
	}
	if _, err := get("/add?first"); err != nil { // the browser's cookie
		return 0, err
	}
	var next atomic.Int64
	errs := make([]error, webClients)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for next.Add(1) <= webIncrements && errs[i] == nil {
				_, errs[i] = get("/add")
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	text, err := get("/count")
	if err != nil {
		return 0, err
	}
	var count int64
	if _, err := fmt.Sscan(text, &count); err != nil {
		return 0, fmt.Errorf("count %q: %w", text, err)
	}
	return webIncrements + 1 - count, nil
}
