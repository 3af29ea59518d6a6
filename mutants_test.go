package sessile_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/internal/store"
	"github.com/stretchr/testify/require"
)

// A mutant is the engine with one thing broken. The test named must fail on it.
type mutant struct {
	name      string // of what is broken
	invariant int
	file      string
	old, new  string // new is broken while on is true
	test      string
}

var mutants = []mutant{
	{"a cut of every other shard", 1, "persist.go",
		"		bufs[i], sh.log = sh.log, bufs[i][:0]\n",
		"		if ON && i%2 == 1 {\n			bufs[i] = nil\n			continue\n		}\n		bufs[i], sh.log = sh.log, bufs[i][:0]\n", "TestModel"},
	{"a record ahead of the log", 1, "checkpoint.go", "if !final {", "if !final && !ON {", "TestCheckpointWaitsForTheLog"},
	{"a low-water mark too high", 1, "checkpoint.go", "p.raise(lo.number, lo.live)", "p.raise(lo.number+ONE, lo.live)", "TestModel"},
	{"an acknowledgement before the commit", 2, "persist.go", "	notify(p.nowC)\n	p.mu.Lock()\n", "	if ON {\n		return nil\n	}\n	notify(p.nowC)\n	p.mu.Lock()\n", "TestModel"},
	{"a commit that is not synced", 2, "internal/store/badger.go", "WithSyncWrites(true)", "WithSyncWrites(!ON)", "TestPowerCut"},
	{"no flush by time", 3, "persist.go", "			timer.Reset(p.e.opt.FlushInterval)\n", "			if !ON {\n				timer.Reset(p.e.opt.FlushInterval)\n			}\n", "TestLossWindow"},
	{"half of an UpdateMany", 4, "many.go", "	for _, st := range writers {\n		version", "	for i, st := range writers {\n		if ON && i > 0 {\n			continue\n		}\n		version", "TestTransfersKeepTheSum"},
	{"a skipped tombstone", 5, "commit.go", "	sh.log = appendDelta(sh.log, deltaEnd, s.id(), sh.version, now, nil)\n", "	if !ON {\n		sh.log = appendDelta(sh.log, deltaEnd, s.id(), sh.version, now, nil)\n	}\n", "TestModel"},
	{"a late load that revives", 5, "load.go", "if s.status() != loading {", "if s.status() != loading && !ON {", "TestLateLoad"},
	{"a session lock that everyone gets", 6, "session.go", "	if s.tryLock() {\n		return nil\n	}\n	if e.spin {", "	if ON {\n		s.mark(bitLocked)\n		return nil\n	}\n	if s.tryLock() {\n		return nil\n	}\n	if e.spin {", "TestNoIncrementIsLost"},
	{"a commit into a published record", 6, "commit.go", "if s.word.Load()&bitPublished != 0 {", "if s.word.Load()&bitPublished != 0 && !ON {", "TestViewSeesTheCommittedState|TestViewsAreNotTorn"},
	{"a handle that is valid for ever", 6, "txn.go", "t.state != nil && t.state.gen.Load() == t.gen }", "t.state != nil && (t.state.gen.Load() == t.gen || ON) }", "TestHandlesEndWithTheirCallback"},
	{"an eviction without the clean check", 7, "shard.go", "w&(bitLocked|bitQueued|bitChanged|bitPending) != 0 {", "w&(bitLocked|bitQueued) != 0 || w&(bitChanged|bitPending) != 0 && !ON {", "TestModel"},
	{"a failed write that counts as done", 8, "persist.go", "		default:\n			p.fail(err)\n			return false\n", "		default:\n			if ON {\n				return true\n			}\n			p.fail(err)\n			return false\n", "TestStoreFailureIsFinal"},
	{"a log without a bound", 9, "persist.go", "		p.e.room.shut(p.e, gateFull)\n", "		if !ON {\n			p.e.room.shut(p.e, gateFull)\n		}\n", "TestBackPressure"},
	{"a commit after an error", 10, "engine.go", "if err := fn(Txn{st, gen}); err != nil {", "if err := fn(Txn{st, gen}); err != nil && !ON {", "TestRollback"},
	{"a Close without the final checkpoint", 11, "shutdown.go", "if p.checkpoint(ErrClosed) {", "if ON || p.checkpoint(ErrClosed) {", "TestModel"},
}

// All mutants are built into one test binary, by an overlay over the sources, and
// switched on one at a time: the sources themselves know nothing of them.
func TestMutants(t *testing.T) {
	if os.Getenv("SESSILE_MUTANT") != "" {
		t.Skip("inside a mutant")
	}
	if testing.Short() || raceEnabled {
		t.Skip("builds a second test binary; not with -short, and the mutants are the same under the race detector")
	}
	dir := t.TempDir()
	root, err := os.Getwd()
	require.NoError(t, err)
	sources := map[string]string{}
	for _, m := range mutants {
		if sources[m.file] == "" {
			b, err := os.ReadFile(m.file)
			require.NoError(t, err)
			sources[m.file] = string(b)
		}
		require.Equal(t, 1, strings.Count(sources[m.file], m.old), "mutant %q does not apply to %s any more", m.name, m.file)
		broken := strings.ReplaceAll(m.new, "ONE", "mutantOne(\""+m.name+"\")")
		broken = strings.ReplaceAll(broken, "ON", "mutantOn(\""+m.name+"\")")
		sources[m.file] = strings.Replace(sources[m.file], m.old, broken, 1)
	}
	for _, pkg := range []string{"sessile", "internal/store"} {
		sources[filepath.Join(strings.TrimPrefix(pkg, "sessile"), "mutant.go")] = "package " + filepath.Base(pkg) + `

import "os"

var theMutant = os.Getenv("SESSILE_MUTANT")

func mutantOn(name string) bool { return name == theMutant }

func mutantOne(name string) uint64 {
	if name == theMutant {
		return 1
	}
	return 0
}
`
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for file, source := range sources {
		at := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		require.NoError(t, os.WriteFile(at, []byte(source), 0o600))
		overlay.Replace[filepath.Join(root, file)] = at
	}
	b, err := json.Marshal(overlay)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "overlay.json"), b, 0o600))
	binary := filepath.Join(dir, "mutants.test")
	out, err := exec.Command("go", "test", "-c", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)

	// Without a mutant the tests pass, so what fails with one fails because of it.
	plain := map[string]string{}
	for _, m := range mutants {
		if plain[m.test] == "" {
			out, err := runMutant(binary, "none", m.test)
			require.NoError(t, err, "%s", out)
			plain[m.test] = string(out)
		}
	}
	for _, m := range mutants {
		t.Run(strings.ReplaceAll(m.name, " ", "_"), func(t *testing.T) {
			if strings.Contains(plain[m.test], "--- SKIP") {
				t.Skip(m.test, " cannot run here:\n", plain[m.test])
			}
			out, err := runMutant(binary, m.name, m.test)
			require.Error(t, err, "invariant %d: %s does not notice %q", m.invariant, m.test, m.name)
			require.NotContains(t, string(out), "test timed out", "%s hangs on it, which is no verdict", m.test)
		})
	}
}

func runMutant(binary, name, test string) ([]byte, error) {
	cmd := exec.Command(binary, "-test.run=^("+test+")$", "-test.v", "-test.timeout=60s", "-rapid.checks=200", "-rapid.nofailfile", "-rapid.shrinktime=0s")
	cmd.Env = append(os.Environ(), "SESSILE_MUTANT="+name)
	return cmd.CombinedOutput()
}

// A commit that was not asked to be durable is so within FlushInterval and a write.
func TestLossWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := store.NewMem()
		opt := sessile.Options{Dir: "in memory", FlushInterval: 100 * time.Millisecond, CheckpointInterval: time.Hour}
		reopen := func() *sessile.Engine {
			st, err := disk.Open()
			require.NoError(t, err)
			e, err := sessile.OpenOn(opt, st)
			require.NoError(t, err)
			return e
		}
		e := reopen()
		for i := range 20 {
			require.NoError(t, e.Upsert(ctx, "a", increment))
			time.Sleep(opt.FlushInterval)
			synctest.Wait()
			disk.Crash(0)
			_ = e.Close()
			e = reopen()
			require.EqualValues(t, i+1, read(t, e, "a"))
		}
		require.NoError(t, e.Close())
	})
}
