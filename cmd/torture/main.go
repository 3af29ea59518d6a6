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
//	disk    file systems that are full, read-only, shut down or gone, and flipped bits
//	all     one after the other, sharing the time
//
// It prints what it does while it works, the seed, and a summary, and exits with 1 on any violation.
// Modes that need root or loop devices say so where they have neither.
//
// It builds the package's own test binary, whose short forms of the same tests run in go test.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

var modes = []struct{ name, test string }{
	{"linear", "TestLinearizable"},
	{"model", "TestModel"},
	{"kill", "TestCrash"},
	{"power", "TestPowerCut"},
	{"disk", "TestSickDisk"},
	{"disk", "TestFlippedBits"},
}

func main() {
	length := flag.Duration("for", time.Minute, "how long, in all")
	seed := flag.Int64("seed", time.Now().UnixNano(), "of all that is drawn")
	race := flag.Bool("race", false, "under the race detector, with assertions")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: torture [-for 10m] [-seed n] [-race] all | linear | model | kill | power | disk ...")
		flag.PrintDefaults()
	}
	flag.Parse()
	var chosen []string
	for _, arg := range flag.Args() {
		known := arg == "all"
		for _, m := range modes {
			if arg == m.name || arg == "all" {
				chosen = append(chosen, m.name)
				known = true
			}
		}
		if !known {
			fmt.Fprintf(os.Stderr, "torture: no mode %q\n", arg)
			flag.Usage()
			os.Exit(2)
		}
	}
	if len(chosen) == 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(chosen, *length, *seed, *race); err != nil {
		fmt.Fprintln(os.Stderr, "torture:", err)
		os.Exit(1)
	}
}

func run(chosen []string, length time.Duration, seed int64, race bool) error {
	dir, err := os.MkdirTemp("", "sessile-torture-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "torture.test")
	args := []string{"test", "-c", "-o", binary}
	if race {
		args = append(args, "-race", "-tags", "invariants")
	}
	build := exec.Command("go", append(args, "github.com/sessile-go/sessile")...)
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build: %w", err)
	}
	fmt.Printf("seed %d\n", seed)
	var summary []string
	failed := false
	parts := 0
	for _, m := range modes {
		if slices.Contains(chosen, m.name) {
			parts++
		}
	}
	for _, m := range modes {
		if !slices.Contains(chosen, m.name) {
			continue
		}
		last, err := runMode(binary, m.test, length/time.Duration(parts), seed)
		if err != nil {
			failed = true
			last = "VIOLATION, or the run broke: " + err.Error() + "; " + last
		}
		summary = append(summary, last)
	}
	fmt.Printf("\nsummary, seed %d\n", seed)
	for _, line := range summary {
		fmt.Println("  " + line)
	}
	if failed {
		return fmt.Errorf("there were violations; run again with -seed %d", seed)
	}
	return nil
}

// runMode runs one test for as long, and returns its last line of progress.
func runMode(binary, test string, length time.Duration, seed int64) (last string, err error) {
	cmd := exec.Command(binary, "-test.run=^"+test+"$", "-test.timeout=0", "-rapid.nofailfile")
	cmd.Env = append(os.Environ(), "SESSILE_FOR="+length.String(), fmt.Sprintf("SESSILE_SEED=%d", seed))
	out, in := io.Pipe()
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		return "", err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait(); in.Close() }()
	lines := bufio.NewReader(out)
	for {
		line, readErr := lines.ReadString('\n')
		line = strings.TrimSuffix(line, "\n")
		if told, ok := strings.CutPrefix(line, "torture: "); ok {
			last = told
			fmt.Println(told)
		} else if line != "" && line != "PASS" {
			fmt.Println("  " + line)
		}
		if readErr != nil {
			break
		}
	}
	return last, <-done
}
