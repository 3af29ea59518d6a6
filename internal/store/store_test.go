package store

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// What every Store must do, tried on each.
func TestConformance(t *testing.T) {
	tests := map[string]func(t *testing.T, open func() Store){
		"CommitGetScan":     testCommitGetScan,
		"ScanInPages":       testScanInPages,
		"OwnMemory":         testOwnMemory,
		"ReadsBesideWrites": testReadsBesideWrites,
		"CloseInUse":        testCloseInUse,
		"Limits":            testLimits,
		"ConcurrentUse":     testConcurrentUse,
		"OneOwner":          testOneOwner,
	}
	stores := map[string]func(t *testing.T) func() (Store, error){
		"badger": func(t *testing.T) func() (Store, error) {
			dir := t.TempDir()
			return func() (Store, error) { return OpenBadger(dir, BadgerOptions{DiskReserve: -1}) }
		},
		"mem": func(*testing.T) func() (Store, error) { return NewMem().Open },
	}
	for kind, disk := range stores {
		for name, test := range tests {
			t.Run(kind+"/"+name, func(t *testing.T) {
				openDisk := disk(t)
				test(t, func() Store {
					s, err := openDisk()
					if err != nil {
						require.ErrorIs(t, err, ErrLocked)
						return nil
					}
					t.Cleanup(func() {
						if err := s.Close(); err != nil {
							require.ErrorIs(t, err, ErrClosed)
						}
					})
					return s
				})
			})
		}
	}
}

func testOneOwner(t *testing.T, open func() Store) {
	s := open()
	require.Nil(t, open(), "it is open already")
	require.NoError(t, s.Close())
	require.NotNil(t, open())
}

func set(k, v string) Op { return Op{Key: []byte(k), Value: []byte(v)} }
func del(k string) Op    { return Op{Key: []byte(k)} }

func scan(t *testing.T, s Store, prefix, after string, keysOnly bool) (out []string) {
	t.Helper()
	var from []byte
	if after != "" {
		from = []byte(after)
	}
	require.NoError(t, s.Scan([]byte(prefix), from, keysOnly, func(k, v []byte) bool {
		if keysOnly && v != nil {
			t.Error("a value with keysOnly")
		}
		out = append(out, string(k)+"="+string(v))
		return true
	}))
	return out
}

func testCommitGetScan(t *testing.T, open func() Store) {
	s := open()
	require.NoError(t, s.Commit(nil))
	require.NoError(t, s.Commit([]Op{set("a2", "x"), set("a1", ""), set("b", "y"), set("a", "z")}))
	require.NoError(t, s.Commit([]Op{del("a2"), set("a3", "w"), set("b", "yy")}))
	check := func() {
		v, ok, err := s.Get([]byte("a1"), []byte("dst"))
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, "dst", string(v))
		_, ok, err = s.Get([]byte("a2"), nil)
		require.NoError(t, err)
		require.False(t, ok)
		require.Equal(t, []string{"a=z", "a1=", "a3=w"}, scan(t, s, "a", "", false))
		require.Equal(t, []string{"a1=", "a3="}, scan(t, s, "a", "a", true))
		require.Equal(t, []string{"a3=w"}, scan(t, s, "a", "a2", false))
		require.Empty(t, scan(t, s, "a", "a3", false))
		require.Equal(t, []string{"b=yy"}, scan(t, s, "b", "", false))
	}
	check()
	require.NoError(t, s.SetMark(7))
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Close(), ErrClosed)
	require.ErrorIs(t, s.Commit([]Op{set("a", "b")}), ErrClosed)
	_, _, err := s.Get([]byte("a"), nil)
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, s.Scan(nil, nil, true, nil), ErrClosed)

	s = open()
	check()
	mark, ok := s.Mark()
	require.True(t, ok)
	require.EqualValues(t, 7, mark)
}

// A caller may use the memory of after for the next page's.
func testScanInPages(t *testing.T, open func() Store) {
	s := open()
	var ops []Op
	for i := range 500 {
		ops = append(ops, set(fmt.Sprint("k", i), ""))
	}
	require.NoError(t, s.Commit(ops))
	var after []byte
	seen := map[string]bool{}
	for {
		n := 0
		require.NoError(t, s.Scan([]byte("k"), after, true, func(k, _ []byte) bool {
			require.False(t, seen[string(k)])
			seen[string(k)] = true
			after = append(after[:0], k...)
			n++
			return n < 7
		}))
		if n < 7 {
			break
		}
	}
	require.Len(t, seen, 500)
}

func testLimits(t *testing.T, open func() Store) {
	s := open()
	l := s.Limits()
	require.NoError(t, s.Commit([]Op{{Key: []byte("v"), Value: make([]byte, l.Value)}}))
	require.ErrorIs(t, s.Commit([]Op{set("x", ""), {Key: []byte("v"), Value: make([]byte, l.Value+1)}}), ErrTooLarge)
	full := func(size int) (ops []Op) {
		for i := 0; size > 0; i++ {
			op := Op{Key: fmt.Appendf(nil, "key%06d", i)}
			op.Value = make([]byte, max(0, min(size-op.Size(), 100<<10)))
			size -= op.Size()
			ops = append(ops, op)
		}
		return ops
	}
	sum := func(ops []Op) (n int) {
		for _, op := range ops {
			n += op.Size()
		}
		return n
	}
	ops := full(l.Bytes - 200)
	ops[0].Value = ops[0].Value[:len(ops[0].Value)-(sum(ops)-l.Bytes+200)]
	require.LessOrEqual(t, sum(ops), l.Bytes)
	require.NoError(t, s.Commit(ops))
	require.ErrorIs(t, s.Commit(full(l.Bytes+1000)), ErrTooLarge)
	many := make([]Op, l.Ops+1)
	for i := range many {
		many[i] = set(strconv.Itoa(i), "")
	}
	require.NoError(t, s.Commit(many[:l.Ops]))
	require.ErrorIs(t, s.Commit(many), ErrTooLarge)
	_, ok, err := s.Get([]byte("x"), nil)
	require.NoError(t, err)
	require.False(t, ok, "nothing of a refused batch is there")
}

func testConcurrentUse(t *testing.T, open func() Store) {
	s := open()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 50 {
				key := fmt.Sprintf("%d/%d", g, i)
				if err := s.Commit([]Op{set(key, key), set("last"+strconv.Itoa(g), strconv.Itoa(i))}); err != nil {
					t.Error(err)
				}
				if v, ok, err := s.Get([]byte(key), nil); err != nil || !ok || string(v) != key {
					t.Error("a batch is seen once its Commit has returned:", key, ok, err)
				}
				if err := s.Scan([]byte(strconv.Itoa(g)), nil, true, func(k, _ []byte) bool { return true }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// The store keeps no memory of the caller's, nor lends its own.
func testOwnMemory(t *testing.T, open func() Store) {
	s := open()
	key, value := []byte("key"), []byte("value")
	require.NoError(t, s.Commit([]Op{{Key: key, Value: value}}))
	key[0], value[0] = 'x', 'x'
	require.Equal(t, []string{"key=value"}, scan(t, s, "", "", false))
	v, ok, err := s.Get([]byte("key"), nil)
	require.NoError(t, err)
	require.True(t, ok)
	v[0] = 'y'
	require.Equal(t, []string{"key=value"}, scan(t, s, "", "", false))
}

// A reader beside a writer sees no key go back. It may see a part of the batch that is being written.
func testReadsBesideWrites(t *testing.T, open func() Store) {
	s := open()
	batch := func(n int) (ops []Op) {
		for i := range 20 {
			ops = append(ops, set(fmt.Sprintf("k%02d", i), strconv.Itoa(n)))
		}
		return ops
	}
	require.NoError(t, s.Commit(batch(0)))
	const last = 200
	var writer sync.WaitGroup
	writer.Go(func() {
		for n := 1; n <= last; n++ {
			if err := s.Commit(batch(n)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	seen := map[string]int{}
	for done := false; !done && !t.Failed(); {
		done = true
		keys := 0
		require.NoError(t, s.Scan([]byte("k"), nil, false, func(k, v []byte) bool {
			n, err := strconv.Atoi(string(v))
			if err != nil || n < seen[string(k)] {
				t.Errorf("%s is %s after %d: %v", k, v, seen[string(k)], err)
			}
			seen[string(k)] = n
			done = done && n == last
			keys++
			return true
		}))
		require.Equal(t, 20, keys)
	}
	writer.Wait()
}

// Close beside calls lets them end, and later ones are refused.
func testCloseInUse(t *testing.T, open func() Store) {
	s := open()
	require.NoError(t, s.Commit([]Op{set("a", "1")}))
	begun := make(chan struct{}, 4)
	var calls sync.WaitGroup
	for g := range 4 {
		calls.Go(func() {
			for n := 0; ; n++ {
				var err error
				switch g {
				case 0:
					err = s.Commit([]Op{set("a", strconv.Itoa(n))})
				case 1:
					_, _, err = s.Get([]byte("a"), nil)
				default:
					err = s.Scan(nil, nil, g == 2, func(k, v []byte) bool { return true })
				}
				if n == 10 {
					begun <- struct{}{}
				}
				if err != nil {
					if !errors.Is(err, ErrClosed) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	for range 4 {
		<-begun
	}
	require.NoError(t, s.Close())
	calls.Wait()
	require.NotNil(t, open())
}
