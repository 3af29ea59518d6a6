package peers

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const testSize = 300

// forEach runs a test on each peer of each regime, opened with the configuration.
func forEach(t *testing.T, c Config, run func(t *testing.T, k Kind, p Peer)) {
	for _, r := range []Regime{Memory, WriteBehind, Durable} {
		for _, k := range Kinds(r) {
			if k.WriteOnly {
				continue
			}
			t.Run(fmt.Sprintf("%s/%s", r, k.Name), func(t *testing.T) {
				t.Parallel()
				c := c
				c.Regime, c.Dir, c.Size = r, t.TempDir(), testSize
				p, err := k.Open(c)
				if err != nil {
					require.ErrorIs(t, err, ErrUnavailable)
					t.Skip(err)
				}
				t.Cleanup(func() { require.NoError(t, p.Close()) })
				run(t, k, p)
			})
		}
	}
}

// Every peer does what the interface says.
func TestContract(t *testing.T) {
	forEach(t, Config{Callers: 4}, func(t *testing.T, _ Kind, p Peer) {
		ids := []string{"one", "two", "three"}
		require.NoError(t, p.Fill(ids))
		for _, id := range ids {
			pair, err := p.Read(id)
			require.NoError(t, err)
			assert.Zero(t, pair)
		}
		require.NoError(t, p.Change("two", false))
		require.NoError(t, p.Change("two", true))
		pair, err := p.Read("two")
		require.NoError(t, err)
		assert.Equal(t, Pair{2, 2}, pair)
		pair, err = p.Read("one")
		require.NoError(t, err)
		assert.Zero(t, pair)
		require.NoError(t, p.Create("four"))
		require.NoError(t, p.Change("four", false))
		if s, ok := p.(Summer); ok {
			sum, err := s.Sum(append(ids, "four"))
			require.NoError(t, err)
			assert.EqualValues(t, 3, sum)
		}
		if a, ok := p.(Adder); ok {
			require.NoError(t, a.Add("four"))
			pair, err := p.Read("four")
			require.NoError(t, err)
			assert.Equal(t, Pair{2, 1}, pair)
			require.Error(t, a.Add("nobody"))
		}
		require.NoError(t, p.Delete("four"))
		for _, gone := range []string{"four", "nobody"} {
			_, err = p.Read(gone)
			require.Error(t, err)
			require.Error(t, p.Change(gone, false))
		}
	})
}

// What is said to be a transaction loses nothing when changes overlap.
func TestChangesOverlap(t *testing.T) {
	const callers, each = 8, 50
	forEach(t, Config{Callers: callers}, func(t *testing.T, k Kind, p Peer) {
		require.NoError(t, p.Fill([]string{"hot"}))
		errs := make([]error, callers)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() {
				for range each {
					if err := p.Change("hot", false); err != nil {
						errs[i] = err
						return
					}
				}
			})
		}
		wg.Wait()
		for _, err := range errs {
			require.NoError(t, err)
		}
		pair, err := p.Read("hot")
		require.NoError(t, err)
		assert.Equal(t, pair.A, pair.B)
		if k.LoadsAndSaves {
			assert.LessOrEqual(t, pair.A, int64(callers*each))
		} else {
			assert.EqualValues(t, callers*each, pair.A)
		}
	})
}

// A peer that is said to expire sessions does, and does not before.
func TestExpiry(t *testing.T) {
	forEach(t, Config{Callers: 2, TTL: time.Second}, func(t *testing.T, k Kind, p Peer) {
		require.NoError(t, p.Fill(nil))
		begun := time.Now()
		require.NoError(t, p.Create("short"))
		_, err := p.Read("short")
		if time.Since(begun) < 900*time.Millisecond/2 { // Badger counts whole seconds
			require.NoError(t, err)
		}
		if k.Expires {
			require.Eventually(t, func() bool { _, err := p.Read("short"); return err != nil }, 20*time.Second, 20*time.Millisecond)
		}
	})
}

// Sessions of all peers have the size that was asked for.
func TestSizes(t *testing.T) {
	assert.Len(t, newBlob(testSize), testSize)
	csrf, name, profile := fields(testSize)
	assert.Equal(t, testSize, len(csrf)+len(name)+len(profile)+len("a")+len("b")+len("csrf")+len("name")+len("profile")+16)
}

// The disk alone has no sessions, and says so.
func TestFdatasync(t *testing.T) {
	p, err := fdatasyncKind.Open(Config{Regime: Durable, Dir: t.TempDir()})
	require.NoError(t, err)
	for range 3 {
		require.NoError(t, p.Change("", false))
	}
	_, err = p.Read("x")
	require.ErrorIs(t, err, ErrNoSessions)
	require.NoError(t, p.Close())
}
