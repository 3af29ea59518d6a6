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

// gcShare returns the collector's share of the processor time that run takes, over d. The runtime brings its account up
// to date at the end of each collection, so one is forced before and one after. A heap that hardly grows is not waited
// for: collections count by what was allocated, against what is allocated between two that nobody forces.
func gcShare(d time.Duration, run func(at, n int) error) (float64, error) {
	const step = 1000
	runtime.GC()
	gcBefore, busyBefore := processorTimes()
	cycles, allocated := metric("/gc/cycles/total:gc-cycles"), metric("/gc/heap/allocs:bytes")
	for start, at := time.Now(), 0; time.Since(start) < d; at += step {
		if err := run(at, step); err != nil {
			return 0, err
		}
	}
	allocated = metric("/gc/heap/allocs:bytes") - allocated
	room := metric("/gc/heap/goal:bytes") - metric("/gc/heap/live:bytes")
	runtime.GC()
	cycles = metric("/gc/cycles/total:gc-cycles") - cycles
	gc, busy := processorTimes()
	gc -= gcBefore
	rest := max(0, busy-busyBefore-gc)
	gc *= min(1, allocated/room/cycles)
	return gc / max(gc+rest, 1e-9), nil
}

// metric returns one of the runtime's whole numbers.
func metric(name string) float64 {
	s := []metrics.Sample{{Name: name}}
	metrics.Read(s)
	return float64(s[0].Value.Uint64())
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
