// Command torture tries Sessile's invariants at length:
//
//	go run ./cmd/torture -for 10m all
//
// The modes are
//
//	linear  histories of operations, checked for linearizability
//	model   the engine against a map, on a disk in memory that crashes and fails
//	kill    a child process that dies of SIGKILL
//	power   the same on an ext4 file system that loses what it has not flushed
//	disk    file systems that die, are full, read-only or gone, and flipped bits
//	all     one after the other, sharing the time
//
// It prints what it does while it works, the seed, and a summary, and exits with 1 on any violation.
// Modes that need root or loop devices say so where they have neither.
//
// It builds the package's own test binary, whose short forms of the same tests run in go test, and
// runs several of it side by side.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"time"
)

// A mode is one test that is run at length.
type mode struct {
	name, test string
	share      int // of the time
	perCPU     int // processes side by side; those that wait for a disk come in pairs
	env        []string
}

var modes = []mode{
	{"linear", "TestLinearizable", 2, 1, nil},
	// One goroutine works at a time there, and most of what it makes is short-lived.
	{"model", "TestModel", 8, 1, []string{"GOMAXPROCS=1", "GOGC=400", "RAPID_STEPS=80"}},
	{"kill", "TestCrash", 3, 2, nil},
	{"power", "TestPowerCut", 3, 2, nil},
	{"disk", "TestDyingDisk", 1, 1, nil},
	{"disk", "TestSickDisk", 1, 1, nil},
	{"disk", "TestFlippedBits", 2, 1, nil},
}

func main() {
	length := flag.Duration("for", time.Minute, "how long, in all")
	count := flag.Int64("count", 0, "end a mode early when it has done so many operations, steps, crashes, ...; 0: no")
	seed := flag.Int64("seed", time.Now().UnixNano(), "of all that is drawn")
	race := flag.Bool("race", false, "under the race detector, with assertions")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: torture [-for 10m] [-count n] [-seed n] [-race] all | linear | model | kill | power | disk ...")
		flag.PrintDefaults()
	}
	flag.Parse()
	chosen, err := choose(flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		flag.Usage()
		os.Exit(2)
	}
	dir, err := os.MkdirTemp("", "sessile-torture-")
	if err == nil {
		err = build(dir, *race)
	}
	if err == nil {
		c := campaign{binary: filepath.Join(dir, binaryName), seed: *seed, length: *length, count: *count, cpus: runtime.NumCPU(), out: os.Stdout}
		err = c.run(chosen)
	}
	os.RemoveAll(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
}

// choose returns the modes of the arguments, in their own order.
func choose(args []string) (chosen []mode, err error) {
	for _, arg := range args {
		if arg != "all" && !slices.ContainsFunc(modes, func(m mode) bool { return m.name == arg }) {
			return nil, fmt.Errorf("no mode %q", arg)
		}
	}
	for _, m := range modes {
		if slices.Contains(args, m.name) || slices.Contains(args, "all") {
			chosen = append(chosen, m)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no mode is given")
	}
	return chosen, nil
}

const binaryName = "torture.test"

// build makes the test binary.
func build(dir string, race bool) error {
	args := []string{"test", "-c", "-o", filepath.Join(dir, binaryName)}
	if race {
		args = append(args, "-race", "-tags", "invariants")
	}
	cmd := exec.Command("go", append(args, "github.com/sessile-go/sessile")...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build: %w", err)
	}
	return nil
}
