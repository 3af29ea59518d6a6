package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A campaign runs modes, one after the other.
type campaign struct {
	binary string
	seed   int64
	length time.Duration // in all
	count  int64         // of each mode; 0: as many as there is time for
	cpus   int
	out    io.Writer

	mu sync.Mutex
	// Guarded by mu, and for one mode at a time.
	tallies []tally // of each process
	skipped string  // why a process could not try anything
	told    time.Time
}

// tellEvery is how often progress is printed.
const tellEvery = 2 * time.Second

func (c *campaign) run(chosen []mode) error {
	shares := 0
	for _, m := range chosen {
		shares += m.share
	}
	fmt.Fprintf(c.out, "seed %d\n", c.seed)
	var summary []string
	violations := int64(0)
	for _, m := range chosen {
		line, bad := c.runMode(m, c.length*time.Duration(m.share)/time.Duration(shares))
		summary = append(summary, line)
		violations += bad
	}
	fmt.Fprintf(c.out, "\nsummary, seed %d, %d violations\n", c.seed, violations)
	for _, line := range summary {
		fmt.Fprintln(c.out, "  "+line)
	}
	if violations > 0 {
		return fmt.Errorf("%d violations; run again with -seed %d", violations, c.seed)
	}
	return nil
}

// runMode runs the mode's processes side by side and returns its line of the summary.
func (c *campaign) runMode(m mode, length time.Duration) (line string, violations int64) {
	n := max(1, m.perCPU*c.cpus)
	started := time.Now()
	c.tallies, c.skipped, c.told = make([]tally, n), "", started
	errs := make([]error, n)
	var processes sync.WaitGroup
	for i := range n {
		processes.Go(func() { errs[i] = c.runProcess(m, i, n, length) })
	}
	processes.Wait()
	sum := c.sum()
	for i, err := range errs {
		// A process that ends badly without a word of why is a violation, too.
		if err != nil && c.tallies[i].get("violations") == 0 {
			sum.add("violations", 1)
		}
	}
	switch violations = sum.get("violations"); {
	case violations > 0:
		line = "VIOLATION " + m.name + ": " + sum.String()
	case len(sum.names) > 0 && sum.get(sum.names[0]) > 0:
		line = m.name + ": " + sum.String()
		if c.skipped != "" {
			line += "; some skipped: " + c.skipped
		}
	case c.skipped != "":
		line = m.name + ": skipped: " + c.skipped
	default:
		line, violations = "VIOLATION "+m.name+": nothing was tried", 1
	}
	line += fmt.Sprintf(" in %v", time.Since(started).Round(time.Second))
	fmt.Fprintln(c.out, line)
	return line, violations
}

// runProcess runs one process of n. What it draws depends on the seed and on i alone.
func (c *campaign) runProcess(m mode, i, n int, length time.Duration) error {
	cmd := exec.Command(c.binary, "-test.run=^"+m.test+"$", "-test.v", "-rapid.nofailfile",
		"-test.timeout="+(2*length+10*time.Minute).String())
	cmd.Env = append(append(os.Environ(), m.env...), "SESSILE_FOR="+length.String(), fmt.Sprintf("SESSILE_SEED=%d", c.seed+int64(i)<<32))
	if c.count > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprintf("SESSILE_COUNT=%d", (c.count+int64(n)-1)/int64(n)))
	}
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(c.out, err)
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait(); in.Close() }()
	var said []string // which matters only if the process fails
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if told, ok := strings.CutPrefix(line, "torture: "); ok {
			c.tell(m, i, strings.TrimSuffix(told, "\n"))
		} else {
			said = append(said[max(0, len(said)-2000):], line)
		}
		if err != nil {
			break
		}
	}
	err := <-done
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		fmt.Fprintf(c.out, "%s, process %d: %v\n  %s\n", m.name, i, err, strings.Join(said, "  "))
	}
	return err
}

// tell takes one line of process i, and prints the progress of all.
func (c *campaign) tell(m mode, i int, line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if why, ok := strings.CutPrefix(line, "skipped: "); ok {
		c.skipped = why
		return
	}
	t, ok := parseTally(line)
	if !ok {
		fmt.Fprintln(c.out, line)
		return
	}
	c.tallies[i] = t
	if time.Since(c.told) >= tellEvery {
		c.told = time.Now()
		sum := c.sum()
		fmt.Fprintf(c.out, "%s: %s\n", m.name, &sum)
	}
}

// sum adds up what the processes have done.
func (c *campaign) sum() (sum tally) {
	for i := range c.tallies {
		for _, name := range c.tallies[i].names {
			sum.add(name, c.tallies[i].get(name))
		}
	}
	return sum
}

// A tally is named counts in their order. It is written "3 steps, 1 crashes".
type tally struct {
	names  []string
	counts map[string]int64
}

func parseTally(s string) (t tally, ok bool) {
	for part := range strings.SplitSeq(s, ", ") {
		number, name, _ := strings.Cut(part, " ")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil || name == "" {
			return tally{}, false
		}
		t.add(name, n)
	}
	return t, true
}

func (t *tally) add(name string, n int64) {
	if t.counts == nil {
		t.counts = make(map[string]int64)
	}
	if _, there := t.counts[name]; !there {
		t.names = append(t.names, name)
	}
	t.counts[name] += n
}

func (t *tally) get(name string) int64 { return t.counts[name] }

func (t *tally) String() string {
	var parts []string
	for _, name := range t.names {
		parts = append(parts, fmt.Sprint(t.counts[name], " ", name))
	}
	return strings.Join(parts, ", ")
}
