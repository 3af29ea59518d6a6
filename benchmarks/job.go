package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime/pprof"
	"strings"
)

// A job is a measurement that runs in a process of its own, for the sake of a clean heap, and answers once.
type job func(context.Context, jobArgs) (any, error)

// jobArgs are what a job is told.
type jobArgs struct {
	Scale   Scale           `json:"scale"`
	Dir     string          `json:"dir"`               // empty, the job's own
	Profile string          `json:"profile,omitempty"` // a file for a CPU profile; empty: none
	More    json.RawMessage `json:"more,omitempty"`
}

type jobQuestion struct {
	Name string  `json:"name"`
	Args jobArgs `json:"args"`
}

type jobAnswer struct {
	Error  string          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// jobs are all there are, by name.
func jobs() map[string]job {
	all := map[string]job{
		"latency": latencyJob,
		"growth":  growthJob,
		"steady":  steadyJob,
		"open":    openJob,
		"web":     webJob,
	}
	for _, t := range targets() {
		if t.measure != nil {
			all["target "+t.ID] = func(ctx context.Context, a jobArgs) (any, error) { return t.measure(ctx, a) }
		}
	}
	return all
}

// serveJob is the job's process.
func serveJob(in io.Reader, out io.Writer) error {
	var q jobQuestion
	if err := json.NewDecoder(in).Decode(&q); err != nil {
		return err
	}
	run, ok := jobs()[q.Name]
	if !ok {
		return fmt.Errorf("no job %q", q.Name)
	}
	var a jobAnswer
	result, err := profiled(q.Args.Profile, func() (any, error) { return run(context.Background(), q.Args) })
	if err == nil {
		a.Result, err = json.Marshal(result)
	}
	if err != nil {
		a.Error = err.Error()
	}
	return json.NewEncoder(out).Encode(a)
}

// profileName names the profile of a job.
func profileName(name string, more any) string {
	if more != nil {
		name = fmt.Sprintf("%s %+v", name, more)
	}
	return strings.Trim(notInNames.ReplaceAllString(name, "-"), "-") + ".pprof"
}

var notInNames = regexp.MustCompile(`[^0-9A-Za-z]+`)

// profiled writes a CPU profile of what it runs.
func profiled(path string, run func() (any, error)) (result any, err error) {
	if path == "" {
		return run()
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	result, err = run()
	pprof.StopCPUProfile()
	return result, errors.Join(err, file.Close())
}

// runJob runs a job in a child and returns its result.
func runJob[T any](ctx context.Context, e *Env, name string, more any) (result T, err error) {
	dir, err := os.MkdirTemp(e.Data, "job-")
	if err != nil {
		return result, err
	}
	defer os.RemoveAll(dir)
	args := jobArgs{Scale: e.Scale, Dir: dir}
	if e.Profiles != "" {
		args.Profile = filepath.Join(e.Profiles, profileName(name, more))
	}
	if args.More, err = json.Marshal(more); err != nil {
		return result, err
	}
	p, err := start(ctx, "job")
	if err != nil {
		return result, err
	}
	defer p.kill()
	p.patience += e.Scale.Steady
	var a jobAnswer
	if err := p.ask(jobQuestion{name, args}, &a); err != nil {
		return result, fmt.Errorf("%s: %w", name, err)
	}
	if a.Error != "" {
		return result, fmt.Errorf("%s: %s", name, a.Error)
	}
	return result, json.Unmarshal(a.Result, &result)
}
