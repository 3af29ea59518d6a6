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
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/stretchr/testify/require"
)

// A child process works on a directory until it is killed; what it tells on its
// standard output before that, the parent holds it to afterwards:
//
//	durable N   all history up to N is on disk (a Flush returned nil)
//	saved G N   the durable Update of worker G to N returned nil
//	ended ID    the Delete of ID returned nil
//
// The history is numbered, and step N is an Update of session step(N) to N. So
// whatever is recovered shows its newest step R, and is a prefix if each session is at its
// newest step not after R.
const (
	crashSessions = 50
	crashWorkers  = 4
	crashAccounts = 8
	crashBalance  = 1000
)

var crashOptions = sessile.Options{
	MaxMemory: 1 << 20, CheckpointInterval: 15 * time.Millisecond, FlushInterval: 2 * time.Millisecond, IdleTimeout: sessile.NoTimeout,
}

func step(n int64) string { return fmt.Sprint("step", rand.New(rand.NewSource(n)).Intn(crashSessions)) }

func TestCrashChild(t *testing.T) {
	dir := os.Getenv("SESSILE_CRASH_DIR")
	if dir == "" {
		t.Skip("run by TestCrash in a process of its own")
	}
	opt := crashOptions
	opt.Dir = dir
	e, err := sessile.Open(opt)
	require.NoError(t, err)
	var out sync.Mutex
	tell := func(format string, args ...any) {
		out.Lock()
		defer out.Unlock()
		fmt.Printf(format+"\n", args...)
	}
	value := func(id string) (v int64) {
		err := e.View(ctx, id, func(tx sessile.Txn) (err error) { v, err = counter.Get(tx); return err })
		if err != nil && !errors.Is(err, sessile.ErrNotFound) {
			panic(err)
		}
		return v
	}
	set := func(v int64) func(sessile.Txn) error {
		return func(tx sessile.Txn) error { return counter.Set(tx, v) }
	}
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	var newest atomic.Int64
	for i := range crashSessions {
		newest.Store(max(newest.Load(), value(fmt.Sprint("step", i))))
	}
	if value("account0") == 0 && value("account1") == 0 {
		var ids []string
		for i := range crashAccounts {
			ids = append(ids, fmt.Sprint("account", i))
		}
		must(e.UpsertMany(ctx, ids, func(txs []sessile.Txn) error {
			for _, tx := range txs {
				must(counter.Set(tx, crashBalance))
			}
			txs[0].Durable()
			return nil
		}))
	}
	tell("ready")
	go func() { // the numbered history
		for {
			n := newest.Load() + 1
			must(e.Upsert(ctx, step(n), set(n)))
			newest.Store(n)
		}
	}()
	go func() {
		for {
			n := newest.Load()
			must(e.Flush(ctx))
			tell("durable %d", n)
		}
	}()
	for g := range crashWorkers {
		go func() { // durable updates, transfers and deletes
			r := rand.New(rand.NewSource(time.Now().UnixNano()))
			mine := fmt.Sprint("worker", g)
			for n := value(mine) + 1; ; n++ {
				must(e.Upsert(ctx, mine, func(tx sessile.Txn) error { tx.Durable(); return counter.Set(tx, n) }))
				tell("saved %d %d", g, n)
				from, to := fmt.Sprint("account", r.Intn(crashAccounts)), fmt.Sprint("account", r.Intn(crashAccounts))
				must(e.UpdateMany(ctx, []string{from, to}, func(txs []sessile.Txn) error {
					_, err := sessile.Add(txs[0], counter, -1)
					must(err)
					_, err = sessile.Add(txs[1], counter, 1)
					return err
				}))
				id := create(t, e, func(tx sessile.Txn) error {
					must(tx.SetUser("user" + strconv.Itoa(g)))
					return tx.Set("pad", make([]byte, r.Intn(2000)))
				})
				if n%3 == 0 {
					must(e.Delete(ctx, id))
					tell("ended %s", id)
				}
			}
		}()
	}
	select {}
}

// acks is what the child told before it died.
type acks struct {
	durable int64
	saved   [crashWorkers]int64
	ended   []string
	stderr  string // how it died, if not of SIGKILL
}

// A crash is a child that works on a directory until it is ended.
type crash struct {
	dir string
	end func(child *os.Process) // called a while after the child is ready
}

// run returns what the child told.
func (c crash) run(t *testing.T, after time.Duration) (a acks) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestCrashChild$", "-test.v=false")
	cmd.Env = append(os.Environ(), "SESSILE_CRASH_DIR="+c.dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	pipe, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewReader(pipe)
	ended := make(chan struct{})
	ready := false
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			break // a line cut short counts for nothing
		}
		var g int
		var n int64
		var id string
		switch {
		case line == "ready\n":
			ready = true
			time.AfterFunc(after, func() { c.end(cmd.Process); close(ended) })
		case scan(line, "durable %d\n", &n):
			a.durable = max(a.durable, n)
		case scan(line, "saved %d %d\n", &g, &n):
			a.saved[g] = n
		case scan(line, "ended %s\n", &id):
			a.ended = append(a.ended, id)
		default:
			t.Log(line)
		}
	}
	err = cmd.Wait()
	require.True(t, ready, "the child did not begin: %v\n%s", err, &stderr)
	<-ended
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	if s := exit.Sys().(syscall.WaitStatus); !s.Signaled() || s.Signal() != syscall.SIGKILL {
		a.stderr = stderr.String() + err.Error()
	}
	return a
}

// verify holds the engine opened after the crash to what the child told, and returns the newest step of its history.
func (a acks) verify(t *testing.T, e *sessile.Engine) (newest int64) {
	t.Helper()
	require.NoError(t, sessile.CheckDisk(e))
	newest = verifyPrefix(t, e)
	require.GreaterOrEqual(t, newest, a.durable, "what Flush made durable is there")
	for g, n := range a.saved {
		if n > 0 {
			require.GreaterOrEqual(t, read(t, e, fmt.Sprint("worker", g)), n, "what was saved is there")
		}
	}
	for _, id := range a.ended {
		require.ErrorIs(t, e.View(ctx, id, nil), sessile.ErrNotFound, "what has ended stays ended")
	}
	total := int64(0)
	for i := range crashAccounts {
		total += read(t, e, fmt.Sprint("account", i))
	}
	require.EqualValues(t, crashAccounts*crashBalance, total, "transfers are whole")
	return newest
}

func scan(line, format string, args ...any) bool {
	n, err := fmt.Sscanf(line, format, args...)
	return err == nil && n == len(args)
}

// many returns how many rounds of a test that takes long are asked for.
func many(t *testing.T, name string, short int) int {
	s := os.Getenv(name)
	if s == "" {
		return short
	}
	n, err := strconv.Atoi(s)
	require.NoError(t, err)
	return n
}

// SESSILE_CRASHES asks for more crashes than the default.
func TestCrash(t *testing.T) {
	next := rounds(t, many(t, "SESSILE_CRASHES", 12))
	opt := crashOptions
	opt.Dir = t.TempDir()
	c := crash{dir: opt.Dir, end: func(child *os.Process) { _ = child.Kill() }}
	steps, ends, done := int64(0), 0, 0
	for {
		if _, more := next(); !more {
			break
		}
		done++
		a := c.run(t, time.Duration(5+rand.Intn(150))*time.Millisecond)
		require.Empty(t, a.stderr)
		e, err := sessile.Open(opt)
		require.NoError(t, err)
		t.Cleanup(func() { _ = e.Close() })
		steps = a.verify(t, e)
		ends += len(a.ended)
		require.NoError(t, e.Close())
		if done%20 == 0 {
			progress("kill: %d crashes, %d steps of history, %d durable ends", done, steps, ends)
		}
	}
	t.Logf("%d crashes, %d steps of history, %d durable ends", done, steps, ends)
	progress("kill: %d crashes, %d steps of history, %d durable ends", done, steps, ends)
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
	for n := newest; n > max(0, newest-20_000) && len(want) < crashSessions; n-- {
		if id := step(n); want[id] == 0 {
			want[id] = n
		}
	}
	for id, n := range want {
		require.Equal(t, n, at[id], "%s, newest step %d", id, newest)
	}
	return newest
}
