package sessile_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/stretchr/testify/require"
)

// The directory that bytes are flipped in: some sessions with a user each, closed
// cleanly, and then a numbered history of steps (see TestCrash), which a crash ends.
const (
	flipSessions = 200
	flipUsers    = 7
	flipSteps    = 300
	flipGroup    = 10 // steps that one transaction of the store holds
)

var flipOptions = sessile.Options{DiskReserve: -1, FlushInterval: time.Millisecond, IdleTimeout: sessile.NoTimeout}

func flipID(i int) string   { return fmt.Sprint("s", i) }
func flipUser(i int) string { return fmt.Sprint("user", i%flipUsers) }
func flipPad(i int) []byte  { return bytes.Repeat([]byte(flipID(i)), 20) }

// flipDirs makes the two directories: one closed, and one as a crash leaves it.
func flipDirs(t *testing.T) (closed, crashed string) {
	opt := flipOptions
	opt.Dir = t.TempDir()
	for half := range 2 {
		e, err := sessile.Open(opt)
		require.NoError(t, err)
		for i := half; i < flipSessions; i += 2 {
			require.NoError(t, e.CreateID(ctx, flipID(i), func(tx sessile.Txn) error {
				require.NoError(t, tx.SetUser(flipUser(i)))
				return tx.Set("pad", flipPad(i))
			}))
		}
		require.NoError(t, e.Close())
	}
	closed = copyDir(t, opt.Dir)
	e, err := sessile.Open(opt)
	require.NoError(t, err)
	for n := range int64(flipSteps) {
		require.NoError(t, e.Upsert(ctx, step(n+1), func(tx sessile.Txn) error { return counter.Set(tx, n+1) }))
		if (n+1)%flipGroup == 0 {
			require.NoError(t, e.Flush(ctx))
		}
		if n == flipSteps/2 {
			sessile.Checkpoint(e)
		}
	}
	require.NoError(t, e.Flush(ctx))
	crashed = copyDir(t, opt.Dir)
	require.NoError(t, e.Close())
	return closed, crashed
}

// A flip is one bit of one file.
type flip struct {
	dir, file string
	steps     int64 // of the history in dir
	offset    int64
	bit       int
}

func (f flip) String() string {
	return fmt.Sprintf("%d steps, %s, byte %d, bit %d", f.steps, f.file, f.offset, f.bit)
}

// flips draws n bits of each file of a directory: of its head, of the end of what is
// written, of all that is written, and of what is not.
func flips(t *testing.T, r *rand.Rand, dir string, steps int64, n int) (all []flip) {
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil || len(b) == 0 {
			return err
		}
		file, err := filepath.Rel(dir, path)
		used := max(len(bytes.TrimRight(b, "\x00")), 1)
		for i := range n {
			at := 0
			switch i % 4 {
			case 0:
				at = r.Intn(min(used, 32))
			case 1:
				at = used - 1 - r.Intn(min(used, 64))
			case 2:
				at = r.Intn(used)
			case 3:
				at = r.Intn(len(b))
			}
			all = append(all, flip{dir: dir, file: file, steps: steps, offset: int64(at), bit: r.Intn(8)})
		}
		return err
	}))
	return all
}

// One bit of the directory is not as it was written. The engine says so, or gives the right answers;
// only the last transaction of the log that a crash left may be missing, as if the crash had torn it.
func TestFlippedBits(t *testing.T) {
	if list := os.Getenv("SESSILE_FLIPS"); list != "" {
		flipChild(t, list)
		return
	}
	c := newCampaign(t, 1, "bits flipped", "refused", "told of", "no effect", "shorter")
	closed, crashed := flipDirs(t)
	perFile := 4
	if testing.Short() || raceEnabled {
		perFile = 1
	}
	for {
		seed, more := c.next()
		if !more {
			break
		}
		r := rand.New(rand.NewSource(seed))
		all := append(flips(t, r, closed, 0, perFile), flips(t, r, crashed, flipSteps, perFile)...)
		for len(all) > 0 {
			all = all[flipSome(t, c, all):]
		}
	}
	c.requireAll("refused", "no effect")
}

// flipSome tries flips in a child until it has tried all, or one has ended it.
func flipSome(t *testing.T, c *campaign, all []flip) (n int) {
	list := filepath.Join(t.TempDir(), "flips")
	var b strings.Builder
	for _, f := range all {
		fmt.Fprintln(&b, f.dir, f.file, f.steps, f.offset, f.bit)
	}
	require.NoError(t, os.WriteFile(list, []byte(b.String()), 0o600))
	cmd := exec.Command(os.Args[0], "-test.run=^TestFlippedBits$", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), "SESSILE_FLIPS="+list)
	out, err := cmd.CombinedOutput()
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		if verdict, ok := strings.CutPrefix(lines.Text(), "verdict: "); ok {
			kind, _, _ := strings.Cut(verdict, ":")
			if kind == "WRONG" {
				t.Errorf("%v: %s", all[n], verdict)
			}
			t.Logf("%v: %s", all[n], verdict)
			c.add(kind, 1)
			c.add("bits flipped", 1)
			n++
		}
	}
	if n < len(all) {
		require.Error(t, err)
		t.Errorf("%v: the process ended: %s", all[n], out[max(0, len(out)-4<<10):])
		n++
	}
	return n
}

func flipChild(t *testing.T, list string) {
	b, err := os.ReadFile(list)
	require.NoError(t, err)
	for line := range strings.Lines(string(b)) {
		var f flip
		_, err := fmt.Sscan(line, &f.dir, &f.file, &f.steps, &f.offset, &f.bit)
		require.NoError(t, err)
		dir, err := os.MkdirTemp(filepath.Dir(list), "flip")
		require.NoError(t, err)
		out, err := exec.Command("cp", "-r", "--sparse=always", f.dir+"/.", dir).CombinedOutput()
		require.NoError(t, err, "%s", out)
		file, err := os.OpenFile(filepath.Join(dir, f.file), os.O_RDWR, 0)
		require.NoError(t, err)
		var at [1]byte
		_, err = file.ReadAt(at[:], f.offset)
		require.NoError(t, err)
		at[0] ^= 1 << f.bit
		_, err = file.WriteAt(at[:], f.offset)
		require.NoError(t, err)
		require.NoError(t, file.Close())
		fmt.Println("verdict:", flipVerdict(dir, f, f.steps))
		require.NoError(t, os.RemoveAll(dir))
	}
}

// flipVerdict opens the directory, whose history should end at steps, and looks at everything.
func flipVerdict(dir string, f flip, steps int64) string {
	opt := flipOptions
	opt.Dir = dir
	e, err := sessile.Open(opt)
	if errors.Is(err, sessile.ErrCorrupt) {
		return "refused: " + err.Error()
	}
	if err != nil {
		return "WRONG: not the error for it: " + err.Error()
	}
	defer e.Close()
	told := false // an error has said that something is damaged
	clear := func(err error) bool {
		told = told || errors.Is(err, sessile.ErrCorrupt)
		return errors.Is(err, sessile.ErrCorrupt)
	}
	for i := range flipSessions {
		err := e.View(ctx, flipID(i), func(tx sessile.Txn) error {
			if v, _ := tx.Peek("pad"); !bytes.Equal(v, flipPad(i)) {
				return fmt.Errorf("pad is %q", v)
			}
			return nil
		})
		if err != nil && !clear(err) {
			return fmt.Sprintf("WRONG: %s: %v", flipID(i), err)
		}
	}
	for u := range flipUsers {
		var ids, want []string
		broken := false
		for info, err := range e.ByUser(ctx, flipUser(u)) {
			if err != nil {
				if broken = clear(err); !broken {
					return fmt.Sprintf("WRONG: %s: %v", flipUser(u), err)
				}
				continue
			}
			ids = append(ids, info.ID)
		}
		for i := u; i < flipSessions; i += flipUsers {
			want = append(want, flipID(i))
		}
		slices.Sort(ids)
		slices.Sort(want)
		if !broken && !slices.Equal(ids, want) {
			return fmt.Sprintf("WRONG: %s has %v", flipUser(u), ids)
		}
	}
	at := map[string]int64{}
	newest := int64(0)
	for i := range crashSessions {
		id := fmt.Sprint("step", i)
		v, err := sessile.Read(ctx, e.Session(id), counter)
		if err != nil && !errors.Is(err, sessile.ErrNotFound) && !clear(err) {
			return fmt.Sprintf("WRONG: %s: %v", id, err)
		}
		at[id] = v
		newest = max(newest, v)
	}
	if told {
		return "told of"
	}
	want := map[string]int64{}
	for n := int64(1); n <= newest; n++ {
		want[step(n)] = n
	}
	for id, v := range at {
		if want[id] != v {
			return fmt.Sprintf("WRONG: %s is at %d, the newest step is %d", id, v, newest)
		}
	}
	if err := sessile.CheckDisk(e); err != nil {
		return "WRONG: " + err.Error()
	}
	switch {
	case newest == steps:
		return "no effect"
	case filepath.Ext(f.file) == ".log" && newest >= steps-flipGroup:
		return "shorter"
	}
	return fmt.Sprintf("WRONG: the newest step is %d of %d", newest, steps)
}
