package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// gcShare returns the collector's share of the processor time that run takes, over d at least and whole
// cycles of the collector: the runtime's account is brought up to date at the end of each.
func gcShare(d time.Duration, run func(n int) error) (float64, error) {
	const longest = 20 * time.Second // a heap that hardly grows; then a collection is forced
	toCycleEnd := func(least time.Duration) error {
		start, cycle := time.Now(), gcCycles()
		for time.Since(start) < least || gcCycles() == cycle {
			if err := run(1000); err != nil {
				return err
			}
			if time.Since(start) > least+longest {
				runtime.GC()
			}
		}
		return nil
	}
	if err := toCycleEnd(0); err != nil {
		return 0, err
	}
	gcBefore, busyBefore := processorTimes()
	if err := toCycleEnd(d); err != nil {
		return 0, err
	}
	gc, busy := processorTimes()
	if busy <= busyBefore {
		return 0, nil
	}
	return (gc - gcBefore) / (busy - busyBefore), nil
}

// gcCycles returns how many cycles the collector has completed.
func gcCycles() uint64 {
	s := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// processorTimes returns the seconds spent in the collector, and in everything but idling.
func processorTimes() (gc, busy float64) {
	s := []metrics.Sample{
		{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/total:cpu-seconds"}, {Name: "/cpu/classes/idle:cpu-seconds"},
	}
	metrics.Read(s)
	return s[0].Value.Float64(), s[1].Value.Float64() - s[2].Value.Float64()
}

// availableMemory returns the bytes that can be had without swapping, 0 when that is not known.
func availableMemory() int64 {
	return procValue("/proc/meminfo", "MemAvailable:") << 10
}

// writtenBytes returns what this process has caused to be written to disks, mapped files included, 0 when
// that is not known.
func writtenBytes() int64 { return procValue("/proc/self/io", "write_bytes:") }

// procValue returns the number after a name at the start of a line.
func procValue(path, name string) int64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == name {
			v, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				return 0
			}
			return v
		}
	}
	return 0
}

// diskUsage returns the bytes that a directory's files take on disk; holes take none.
func diskUsage(dir string) (sum int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // a file that goes while we look
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				sum += st.Blocks * 512
			}
		}
		return nil
	})
	return sum
}

func mkdir(dir string) error { return os.MkdirAll(dir, 0o700) }
