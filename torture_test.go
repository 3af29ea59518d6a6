package sessile_test

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A campaign is a test of the proof that goes on for as many rounds as asked for: a few
// in go test, and, by cmd/torture, for as long as these say.
//
//	SESSILE_FOR    how long, a time.Duration
//	SESSILE_COUNT  end earlier, when the first of its counts has come so far
//	SESSILE_SEED   of all that is drawn
//
// It counts what it does. Lines that begin with "torture:" are for cmd/torture.
type campaign struct {
	t     testing.TB
	seed  int64 // of the first round; each has the next one
	round int64
	short int64     // rounds in go test
	until time.Time // zero: in go test
	goal  int64     // of the first count; 0: none

	mu sync.Mutex
	// Guarded by mu.
	names  []string
	counts map[string]int64
	told   time.Time
}

// newCampaign begins one of so many rounds in go test, which counts what is named.
func newCampaign(t testing.TB, short int, names ...string) *campaign {
	t.Helper()
	c := &campaign{t: t, seed: time.Now().UnixNano(), short: int64(short), names: names, counts: make(map[string]int64), told: time.Now()}
	number := func(name string, n *int64) {
		if s := os.Getenv(name); s != "" {
			var err error
			*n, err = strconv.ParseInt(s, 10, 64)
			require.NoError(t, err, name)
		}
	}
	number("SESSILE_SEED", &c.seed)
	number("SESSILE_COUNT", &c.goal)
	if s := os.Getenv("SESSILE_FOR"); s != "" {
		d, err := time.ParseDuration(s)
		require.NoError(t, err)
		c.until = time.Now().Add(d)
	}
	t.Logf("seed %d", c.seed)
	t.Cleanup(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		t.Log(c.line())
		if c.long() {
			fmt.Println("torture: " + c.line())
		}
	})
	return c
}

// long reports whether cmd/torture runs the campaign.
func (c *campaign) long() bool { return !c.until.IsZero() }

// next returns the seed of the next round, if there is to be one. A round that failed is
// the last one; its seed, as SESSILE_SEED, makes it the first.
func (c *campaign) next() (seed int64, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	seed = c.seed + c.round
	switch {
	case c.t.Failed():
		c.t.Logf("the round that failed had SESSILE_SEED=%d", seed-1)
		return 0, false
	case !c.long():
		more = c.round < c.short
	default:
		more = time.Now().Before(c.until) && (c.goal == 0 || c.counts[c.names[0]] < c.goal)
	}
	c.round++
	return seed, more
}

// add counts, and tells cmd/torture now and then.
func (c *campaign) add(name string, n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, there := c.counts[name]; !there {
		c.counts[name] = 0
		if !slices.Contains(c.names, name) {
			c.names = append(c.names, name)
		}
	}
	c.counts[name] += n
	if c.long() && time.Since(c.told) > time.Second {
		c.told = time.Now()
		fmt.Println("torture: " + c.line())
	}
}

func (c *campaign) get(name string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counts[name]
}

// line is called under the mutex.
func (c *campaign) line() string {
	var b strings.Builder
	for _, name := range c.names {
		fmt.Fprintf(&b, "%d %s, ", c.counts[name], name)
	}
	violations := 0
	if c.t.Failed() {
		violations = 1
	}
	fmt.Fprintf(&b, "%d violations", violations)
	return b.String()
}

// requireAll fails a campaign that did not meet what it is for: a fault that never
// happened proves nothing.
func (c *campaign) requireAll(names ...string) {
	for _, name := range names {
		if c.get(name) == 0 && !c.t.Skipped() {
			c.t.Errorf("there were no %s", name)
		}
	}
}

// skip skips the test, and tells cmd/torture why.
func skip(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("SESSILE_FOR") != "" {
		fmt.Println("torture: skipped: " + fmt.Sprintf(format, args...))
	}
	t.Skipf(format, args...)
}
