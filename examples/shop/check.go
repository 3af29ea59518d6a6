package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The check runs the shop as a child process, lets customers use it, kills it
// in the middle of that, starts it again on the same folder, and holds what is
// there against what the customers were told.

const (
	customers  = 12
	tabs       = 6 // of each customer, at once
	busyFor    = 2500 * time.Millisecond
	lossWindow = flushInterval + 400*time.Millisecond // the stated one, and the writes under way on a slow disk
	raceSize   = 200
)

// A customer is one browser, and what it was told.
type customer struct {
	name   string
	base   string
	client *http.Client

	mu     sync.Mutex
	cookie string
	added  []time.Time // when each add was acknowledged
	tried  int         // adds that were sent
	orders int64       // checkouts acknowledged
	dead   []string    // cookies of sessions that a logout ended
}

// send sends a form and returns the answer's status. A new cookie is kept.
func (c *customer) send(method, path string, form url.Values, into any) (status int, err error) {
	req, err := http.NewRequest(method, c.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	c.mu.Lock()
	if c.cookie != "" {
		req.AddCookie(&http.Cookie{Name: cookieName, Value: c.cookie})
	}
	c.mu.Unlock()
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	for _, k := range resp.Cookies() {
		if k.Name == cookieName {
			c.mu.Lock()
			c.cookie = k.Value
			c.mu.Unlock()
		}
	}
	body, err := io.ReadAll(resp.Body)
	if err == nil && into != nil && resp.StatusCode == http.StatusOK {
		err = json.Unmarshal(body, into)
	}
	return resp.StatusCode, err
}

func (c *customer) add(sku string) error {
	c.mu.Lock()
	c.tried++
	c.mu.Unlock()
	status, err := c.send("POST", "/add", url.Values{"sku": {sku}}, nil)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("add: status %d", status)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.added = append(c.added, time.Now())
	return nil
}

// shopFor adds to the cart from several tabs until the server dies or stop is closed.
func (c *customer) shopFor(stop <-chan struct{}) {
	var wg sync.WaitGroup
	for t := range tabs {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if c.add(articles[t%len(articles)].SKU) != nil {
					return
				}
			}
		})
	}
	wg.Wait()
}

// buy checks out again and again: each order is durable when it is acknowledged.
func (c *customer) buy(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		var got struct{ Orders int64 }
		if status, err := c.send("POST", "/checkout", nil, &got); err != nil || status != http.StatusOK {
			return
		}
		c.orders = got.Orders
	}
}

// comeAndGo logs in and out again and again.
func (c *customer) comeAndGo(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		if _, err := c.send("GET", "/", nil, nil); err != nil {
			return
		}
		if _, err := c.send("POST", "/login", url.Values{"user": {c.name}}, nil); err != nil {
			return
		}
		token := c.cookie
		if status, err := c.send("POST", "/logout", nil, nil); err != nil || status != http.StatusSeeOther {
			return
		}
		c.dead = append(c.dead, token)
	}
}

// A server is the shop in a process of its own.
type server struct {
	cmd  *exec.Cmd
	base string
}

func startServer(dir string) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "-addr", "127.0.0.1:0", "-dir", dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	_, base, ok := strings.Cut(strings.TrimSpace(line), "open: ")
	if err != nil || !ok {
		return nil, errors.Join(fmt.Errorf("the server said %q", line), err, cmd.Process.Kill(), cmd.Wait())
	}
	return &server{cmd, base}, nil
}

// kill ends the server as a crash would.
func (s *server) kill() error {
	if err := s.cmd.Process.Kill(); err != nil {
		return err
	}
	_ = s.cmd.Wait() // it says that it was killed
	return nil
}

// stop ends it as a deployment would.
func (s *server) stop() error {
	return errors.Join(s.cmd.Process.Signal(os.Interrupt), s.cmd.Wait())
}

func check(w io.Writer) (err error) {
	dir, err := os.MkdirTemp("", "sessile-shop-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	srv, err := startServer(dir)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = srv.kill()
		}
	}()
	crowd, err := open(srv.base)
	if err != nil {
		return err
	}
	killed, err := useAndKill(srv, crowd)
	if err != nil {
		return err
	}
	if srv, err = startServer(dir); err != nil {
		return fmt.Errorf("start after the crash: %w", err)
	}
	for _, c := range crowd {
		c.base = srv.base
	}
	if err := verify(w, crowd, killed); err != nil {
		return err
	}
	if err := overlap(w, crowd[0]); err != nil {
		return err
	}
	if err := sideBySide(w, crowd[0]); err != nil {
		return err
	}
	if err := srv.stop(); err != nil {
		return fmt.Errorf("orderly stop: %w", err)
	}
	fmt.Fprintln(w, "ok: nothing was lost")
	return nil
}

// open makes the customers, each with a session.
func open(base string) (crowd []*customer, err error) {
	transport := &http.Transport{MaxIdleConnsPerHost: customers * tabs}
	for i := range customers {
		c := &customer{name: fmt.Sprint("customer", i), base: base, client: &http.Client{
			Transport: transport, Timeout: 20 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}}
		if _, err := c.send("GET", "/", nil, nil); err != nil {
			return nil, err
		}
		if i%2 == 0 {
			if _, err := c.send("POST", "/login", url.Values{"user": {c.name}}, nil); err != nil {
				return nil, err
			}
		}
		crowd = append(crowd, c)
	}
	return crowd, nil
}

// roles: most customers fill their carts, some buy, some come and go.
func (c *customer) role(i int) func(<-chan struct{}) {
	switch i % 4 {
	case 2:
		return c.buy
	case 3:
		return c.comeAndGo
	}
	return c.shopFor
}

// useAndKill lets the customers loose and kills the server midway.
func useAndKill(srv *server, crowd []*customer) (killed time.Time, err error) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i, c := range crowd {
		wg.Go(func() { c.role(i)(stop) })
	}
	time.Sleep(busyFor)
	killed = time.Now()
	err = srv.kill()
	close(stop)
	wg.Wait()
	return killed, err
}

// verify holds the sessions against what their customers were told.
func verify(w io.Writer, crowd []*customer, killed time.Time) error {
	var added, kept, inWindow, orders int64
	ended := 0
	for i, c := range crowd {
		if i%4 == 3 {
			for _, token := range c.dead {
				c.cookie = token
				var v cartView
				if status, err := c.send("GET", "/cart", nil, &v); err != nil || status != http.StatusUnauthorized {
					return fmt.Errorf("%s: a token from before its logout answers %d %+v %v", c.name, status, v, err)
				}
				ended++
			}
			continue
		}
		var v cartView
		if status, err := c.send("GET", "/cart", nil, &v); err != nil || status != http.StatusOK {
			return fmt.Errorf("%s: cart: %d %w", c.name, status, err)
		}
		if v.Orders < c.orders {
			return fmt.Errorf("%s: %d of %d acknowledged orders", c.name, v.Orders, c.orders)
		}
		orders += c.orders
		if i%4 == 2 {
			continue
		}
		sum := int64(0)
		for _, n := range v.Items {
			sum += n
		}
		must := int64(0)
		for _, t := range c.added {
			if killed.Sub(t) > lossWindow {
				must++
			}
		}
		switch {
		case sum != v.Total:
			return fmt.Errorf("%s: half a transaction: %d articles, total %d", c.name, sum, v.Total)
		case v.Total < must:
			return fmt.Errorf("%s: %d articles in the cart, %d were acknowledged before the loss window", c.name, v.Total, must)
		case v.Total > int64(c.tried):
			return fmt.Errorf("%s: %d articles in the cart, %d were sent", c.name, v.Total, c.tried)
		}
		added += int64(len(c.added))
		kept += min(v.Total, int64(len(c.added)))
		inWindow += int64(len(c.added)) - must
	}
	fmt.Fprintf(w, "adds acknowledged before the kill: %d, in the carts after it: %d (%d were within the loss window)\n", added, kept, inWindow)
	fmt.Fprintf(w, "durable orders acknowledged: %d, missing: 0\n", orders)
	fmt.Fprintf(w, "logouts acknowledged: %d, undone: 0\n", ended)
	if added == 0 || orders == 0 || ended == 0 {
		return errors.New("the customers did not get to do anything")
	}
	return nil
}

// overlap sends overlapping adds with one cookie.
func overlap(w io.Writer, c *customer) error {
	var before, after cartView
	if _, err := c.send("GET", "/cart", nil, &before); err != nil {
		return err
	}
	var wg sync.WaitGroup
	var failed atomic.Int64
	for range raceSize {
		wg.Go(func() {
			if c.add("sponge") != nil {
				failed.Add(1)
			}
		})
	}
	wg.Wait()
	if _, err := c.send("GET", "/cart", nil, &after); err != nil {
		return err
	}
	fmt.Fprintf(w, "overlapping adds with one cookie: %d, arrived: %d\n", raceSize, after.Total-before.Total)
	if failed.Load() != 0 || after.Total-before.Total != raceSize {
		return fmt.Errorf("overlap: %d of %d adds arrived, %d failed", after.Total-before.Total, raceSize, failed.Load())
	}
	return nil
}

// sideBySide runs the page's race: the same requests against a session that is loaded and saved, and against Sessile's.
func sideBySide(w io.Writer, c *customer) error {
	if status, err := c.send("POST", "/race/start", nil, nil); err != nil || status != http.StatusOK {
		return fmt.Errorf("race: %d %w", status, err)
	}
	var wg sync.WaitGroup
	var failed atomic.Int64
	for i := range 2 * raceSize {
		side := []string{"sessile", "loadsave"}[i%2]
		wg.Go(func() {
			if status, err := c.send("POST", "/race/"+side, nil, nil); err != nil || status != http.StatusOK {
				failed.Add(1)
			}
		})
	}
	wg.Wait()
	var got struct{ Sessile, Loadsave int64 }
	if _, err := c.send("GET", "/race/result", nil, &got); err != nil {
		return err
	}
	fmt.Fprintf(w, "side by side, %d requests each: Sessile counted %d, a session that is loaded and saved %d\n", raceSize, got.Sessile, got.Loadsave)
	if failed.Load() != 0 || got.Sessile != raceSize || got.Loadsave >= raceSize {
		return fmt.Errorf("race: %+v, %d failed", got, failed.Load())
	}
	return nil
}
