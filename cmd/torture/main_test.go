package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// This test binary stands in for the package's, as SESSILE_FAKE says.
func TestMain(m *testing.M) {
	if fake := os.Getenv("SESSILE_FAKE"); fake != "" {
		fmt.Println("=== RUN")
		if fake != "skips" {
			fmt.Printf("torture: 3 steps, 1 crashes, 0 violations\n")
		}
		switch fake {
		case "violates":
			fmt.Println("what went wrong")
			fmt.Printf("torture: 5 steps, 1 crashes, 1 violations\n")
			os.Exit(1)
		case "dies":
			fmt.Println("panic: the engine")
			os.Exit(2)
		case "skips":
			fmt.Println("torture: skipped: needs root")
			fmt.Println("torture: 0 steps, 0 violations")
		case "idles":
		default:
			fmt.Printf("torture: %s seed, 2 crashes, 0 violations\n", os.Getenv("SESSILE_SEED"))
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func runFake(t *testing.T, fake string) (out string, err error) {
	var b strings.Builder
	c := campaign{binary: os.Args[0], seed: 1, length: time.Second, cpus: 2, out: &b}
	err = c.run([]mode{{"fake", "TestFake", 1, 1, []string{"SESSILE_FAKE=" + fake}}})
	return b.String(), err
}

func TestCampaign(t *testing.T) {
	out, err := runFake(t, "works")
	require.NoError(t, err)
	require.Contains(t, out, fmt.Sprintf("fake: %d seed, 4 crashes, 0 violations", 1+1+1<<32), "both processes, each with a seed of its own")
	require.Contains(t, out, "summary, seed 1, 0 violations")

	out, err = runFake(t, "violates")
	require.ErrorContains(t, err, "2 violations")
	require.ErrorContains(t, err, "-seed 1")
	require.Contains(t, out, "what went wrong")
	require.Contains(t, out, "VIOLATION fake: 10 steps, 2 crashes, 2 violations")

	out, err = runFake(t, "dies")
	require.Error(t, err, "a process that ends without a word has failed")
	require.Contains(t, out, "panic: the engine")

	out, err = runFake(t, "idles")
	require.NoError(t, err)
	require.Contains(t, out, "fake: 6 steps")

	out, err = runFake(t, "skips")
	require.NoError(t, err)
	require.Contains(t, out, "fake: skipped: needs root")
}

func TestChoose(t *testing.T) {
	all, err := choose([]string{"all"})
	require.NoError(t, err)
	require.Equal(t, modes, all)
	disk, err := choose([]string{"disk", "linear"})
	require.NoError(t, err)
	require.Len(t, disk, 4)
	for _, args := range [][]string{nil, {"tape"}, {"linear", "tape"}} {
		_, err := choose(args)
		require.Error(t, err)
	}
}
