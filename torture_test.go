package sessile_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The proof runs in two lengths: short ones in go test, and, by cmd/torture,
// ones that last as long as these say.
//
//	SESSILE_FOR   how long, a time.Duration
//	SESSILE_SEED  of all that is drawn
//
// Lines that begin with "torture:" are for cmd/torture to show.

// rounds returns a function that reports whether another round is to be run, and the
// seed of the next; in go test there are as many as short says.
func rounds(t *testing.T, short int) func() (seed int64, more bool) {
	t.Helper()
	seed := time.Now().UnixNano()
	if s := os.Getenv("SESSILE_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseInt(s, 10, 64)
		require.NoError(t, err)
	}
	var until time.Time
	if s := os.Getenv("SESSILE_FOR"); s != "" {
		d, err := time.ParseDuration(s)
		require.NoError(t, err)
		until = time.Now().Add(d)
	}
	t.Logf("seed %d", seed)
	n := 0
	return func() (int64, bool) {
		n++
		if until.IsZero() {
			return seed + int64(n), n <= short
		}
		return seed + int64(n), time.Now().Before(until)
	}
}

// progress tells cmd/torture what has been done.
func progress(format string, args ...any) {
	if os.Getenv("SESSILE_FOR") != "" {
		fmt.Printf("torture: "+format+"\n", args...)
	}
}

// skip skips the test, and tells cmd/torture why.
func skip(t *testing.T, format string, args ...any) {
	t.Helper()
	progress("%s was skipped: %s", t.Name(), fmt.Sprintf(format, args...))
	t.Skipf(format, args...)
}
