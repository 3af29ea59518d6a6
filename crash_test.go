package sessile_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/stretchr/testify/require"
)

// A process under load ends, and what is recovered is held to what it had told (see
// crashChild): in TestCrash it is killed, in TestPowerCut its file system loses what it has not
// flushed, in TestDyingDisk its disk fails. The pipe through which it tells outlives it.
const (
	crashSessions = 50
	crashWorkers  = 4
	crashAccounts = 8
	crashBalance  = 1000
)

func crashOptions(dir string, encrypted bool) sessile.Options {
	opt := sessile.Options{
		Dir: dir, MaxMemory: 1 << 20, CheckpointInterval: 15 * time.Millisecond, FlushInterval: 2 * time.Millisecond, IdleTimeout: sessile.NoTimeout,
		CloseTimeout: 5 * time.Second,
	}
	if encrypted {
		opt.EncryptionKeys = [][]byte{bytes.Repeat([]byte("k"), 32)}
	}
	return opt
}

// step returns the session that a step of the history updates. So whatever is recovered
// shows its newest step R, and is a prefix if each session is at its newest step not after R.
func step(n int64) string { return fmt.Sprint("step", rand.New(rand.NewSource(n)).Intn(crashSessions)) }

// acks is what the child told before it died.
type acks struct {
	ready   bool
	durable int64
	saved   [crashWorkers]int64
	before  int64 // a step that was committed before something that was saved
	tokens  [crashWorkers][]string
	ended   []string
	count   int64  // of all these
	failed  string // how it died, if not of SIGKILL
}

// take adds a line of what the child tells. A line cut short counts for nothing.
func (a *acks) take(line string) bool {
	var g int
	var n, s int64
	var text string
	switch {
	case line == "ready\n":
		a.ready = true
	case scan(line, "durable %d\n", &n):
		a.durable = max(a.durable, n)
	case scan(line, "saved %d %d %d\n", &g, &n, &s):
		a.saved[g] = n
		a.before = max(a.before, s)
	case scan(line, "token %d %s\n", &g, &text):
		a.tokens[g] = append(a.tokens[g], text)
	case scan(line, "ended %s\n", &text):
		a.ended = append(a.ended, text)
	default:
		return false
	}
	a.count++
	return true
}

func scan(line, format string, args ...any) bool {
	if !strings.HasSuffix(line, "\n") {
		return false
	}
	n, err := fmt.Sscanf(line, format, args...)
	return err == nil && n == len(args)
}

// A crash is a child that works on a directory until it is ended.
type crash struct {
	dir       string
	encrypted bool
	end       func(child *os.Process) // called a while after the child began, or is ready
}

// run returns what the child had told when end was called.
func (c crash) run(t *testing.T, seed int64) (told acks) {
	r := rand.New(rand.NewSource(seed))
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrashChild$", "-test.v=false")
	cmd.Env = append(os.Environ(), "SESSILE_CRASH_DIR="+c.dir, fmt.Sprintf("SESSILE_CRASH_SEED=%d", seed))
	if c.encrypted {
		cmd.Env = append(cmd.Env, "SESSILE_CRASH_ENCRYPTED=yes")
	}
	var said, stderr bytes.Buffer // what is not an acknowledgement
	cmd.Stderr = &stderr
	pipe, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())

	var mu sync.Mutex
	var a acks
	ended := make(chan struct{})
	end := func() {
		mu.Lock()
		told = a
		for g := range told.tokens {
			told.tokens[g] = slices.Clone(a.tokens[g])
		}
		told.ended = slices.Clone(a.ended)
		mu.Unlock()
		c.end(cmd.Process)
		close(ended)
	}
	early := r.Intn(4) == 0 // also while it opens and recovers
	after := time.Duration(5+r.Intn(150)) * time.Millisecond
	if early {
		time.AfterFunc(after/2, end)
	}
	lines := bufio.NewReader(pipe)
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			break
		}
		mu.Lock()
		if !a.take(line) {
			said.WriteString(line)
		}
		mu.Unlock()
		if line == "ready\n" && !early {
			time.AfterFunc(after, end)
		}
	}
	err = cmd.Wait()
	require.True(t, early || a.ready, "the child did not begin: %v\n%s", err, &said)
	<-ended
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	if s := exit.Sys().(syscall.WaitStatus); s.Signaled() && s.Signal() == syscall.SIGKILL {
		told = a // it ended at once, so all that it told counts
	} else {
		told.failed = said.String() + stderr.String() + err.Error()
	}
	return told
}

// verify holds the engine opened after the crash to what the child told, and returns the newest step of its history.
func (a acks) verify(t *testing.T, e *sessile.Engine) (newest int64) {
	t.Helper()
	require.NoError(t, sessile.CheckDisk(e))
	newest = verifyPrefix(t, e)
	require.GreaterOrEqual(t, newest, a.durable, "what Flush made durable is there")
	require.GreaterOrEqual(t, newest, a.before, "what was committed before something durable is there")
	for g, n := range a.saved {
		if n > 0 {
			require.GreaterOrEqual(t, read(t, e, fmt.Sprint("worker", g)), n, "what was saved is there")
		}
	}
	for g, tokens := range a.tokens {
		for i, token := range tokens {
			grant, err := e.Resolve(ctx, token)
			switch {
			case i < len(tokens)-1:
				require.Error(t, err, "a login ended the older token for ever")
			case err == nil:
				require.Equal(t, fmt.Sprint("worker", g), grant.ID)
			default:
				require.ErrorIs(t, err, sessile.ErrRenewed, "a login that was not told of came after it")
			}
		}
	}
	for _, id := range a.ended {
		require.ErrorIs(t, e.View(ctx, id, nil), sessile.ErrNotFound, "what has ended stays ended")
	}
	if a.ready {
		total := int64(0)
		for i := range crashAccounts {
			total += read(t, e, fmt.Sprint("account", i))
		}
		require.EqualValues(t, crashAccounts*crashBalance, total, "transfers are whole")
	}
	return newest
}

// verifyPrefix checks that the recovered history has no hole, and returns its newest step.
func verifyPrefix(t *testing.T, e *sessile.Engine) (newest int64) {
	at := map[string]int64{}
	for i := range crashSessions {
		id := fmt.Sprint("step", i)
		v, err := sessile.Read(ctx, e.Session(id), counter)
		if !errors.Is(err, sessile.ErrNotFound) {
			require.NoError(t, err)
			at[id] = v
			newest = max(newest, v)
		}
	}
	want := map[string]int64{}
	for n := newest; n > 0 && len(want) < crashSessions; n-- {
		if id := step(n); want[id] == 0 {
			want[id] = n
		}
	}
	require.Equal(t, want, at, "newest step %d", newest)
	return newest
}

func TestCrash(t *testing.T) {
	c := newCampaign(t, 12, "crashes", "before it was ready", "steps", "acknowledgements", "ends among them")
	child := crash{dir: t.TempDir(), encrypted: c.seed%2 == 0, end: func(child *os.Process) { _ = child.Kill() }}
	var newest int64
	for {
		seed, more := c.next()
		if !more {
			break
		}
		a := child.run(t, seed)
		require.Empty(t, a.failed)
		newest = c.recovered(t, a, child, newest)
		c.add("crashes", 1)
	}
}

// recovered opens the directory after a crash, verifies it, and counts.
func (c *campaign) recovered(t *testing.T, a acks, child crash, before int64) (newest int64) {
	e, err := sessile.Open(crashOptions(child.dir, child.encrypted))
	require.NoError(t, err)
	defer func() { _ = e.Close() }() // the second one, unless something is wrong
	newest = a.verify(t, e)
	require.NoError(t, e.Close())
	if !a.ready {
		c.add("before it was ready", 1)
	}
	c.add("steps", newest-before)
	c.add("acknowledgements", a.count)
	c.add("ends among them", int64(len(a.ended)))
	return newest
}
