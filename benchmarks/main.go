// Command benchmarks compares Sessile with what a Go developer would otherwise use, side by side in one run,
// and measures its targets, its latency under an open-loop load, and what it costs as it grows.
//
//	go run -C benchmarks .         # all of it; writes docs/benchmarks
//	go run -C benchmarks . -quick  # everything at smaller sizes, an estimated five minutes on two cores
//
// It exits with 1 if Sessile lost an update or tore a read, or if something could not be measured.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

func main() {
	if child() {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "benchmarks:", err)
		}
		stop()
		os.Exit(1)
	}
}

// config is the command line.
type config struct {
	scale   Scale
	out     string
	only    *regexp.Regexp
	data    string
	profile string
	list    bool
	install bool
}

func parse(args []string, stderr io.Writer) (config, error) {
	f := flag.NewFlagSet("benchmarks", flag.ContinueOnError)
	f.SetOutput(stderr)
	quick := f.Bool("quick", false, "everything at smaller sizes, an estimated five minutes on two cores")
	out := f.String("out", "", "`directory` for the report (default ../docs/benchmarks; with -only, none)")
	only := f.String("only", "", "measure only the parts whose name matches the `regexp`; see -list")
	data := f.String("data", "", "`directory` for the data, on the disk to be measured (default the system's temporary one)")
	steady := f.Duration("steady", 0, "how long the steady load lasts, such as 1h (default by size)")
	profile := f.String("profile", "", "`directory` for a CPU profile of each part but the tables; samples have the label side, sessile or base")
	list := f.Bool("list", false, "list the parts and measure nothing")
	install := f.Bool("install", true, "install Debian's redis-server if it is missing and this is root")
	if err := f.Parse(args); err != nil {
		return config{}, err
	}
	if f.NArg() > 0 {
		return config{}, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	c := config{scale: fullScale(), out: *out, data: *data, profile: *profile, list: *list, install: *install}
	if *quick {
		c.scale = quickScale()
	}
	switch {
	case *steady < 0:
		return config{}, fmt.Errorf("-steady %s is negative", *steady)
	case *steady > 0:
		c.scale.Steady = *steady
	}
	if *only != "" {
		re, err := regexp.Compile(*only)
		if err != nil {
			return config{}, fmt.Errorf("-only: %w", err)
		}
		c.only = re
	} else if c.out == "" {
		c.out = filepath.Join("..", "docs", "benchmarks")
	}
	return c, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	c, err := parse(args, stderr)
	if err != nil {
		return err
	}
	todo := selected(units(c.scale), c.only)
	if len(todo) == 0 {
		return fmt.Errorf("-only %s matches no part; see -list", c.only)
	}
	if c.list {
		for _, u := range todo {
			fmt.Fprintln(stdout, u.name)
		}
		return nil
	}
	if c.install {
		if said := installRedis(); said != "" {
			fmt.Fprintln(stderr, said)
		}
	}
	r, err := measure(ctx, c, todo, stderr)
	if err != nil {
		return err
	}
	if err := r.writeText(stdout); err != nil {
		return err
	}
	if c.out != "" {
		if err := r.save(c.out); err != nil {
			return fmt.Errorf("write the report: %w", err)
		}
		fmt.Fprintln(stderr, "the report is in", c.out)
	}
	return r.verdict()
}

// measure runs the units in a directory that is removed afterwards. A unit that fails is told of in the report
// and does not stop the others.
func measure(ctx context.Context, c config, todo []unit, stderr io.Writer) (*Report, error) {
	data, err := os.MkdirTemp(c.data, "sessile-benchmarks-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(data)
	e := &Env{Scale: c.scale, Data: data}
	if c.profile != "" {
		if e.Profiles, err = filepath.Abs(c.profile); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(e.Profiles, 0o755); err != nil {
			return nil, err
		}
	}
	r := &Report{Machine: describe(data), Scale: c.scale, Partial: c.only != nil}
	p := newProgress(stderr, todo, time.Now)
	for _, u := range todo {
		p.begin(u)
		err := u.run(ctx, e, r)
		p.end(u)
		if err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			r.Failures = append(r.Failures, Failure{u.name, err.Error()})
			fmt.Fprintln(stderr, u.name, "failed:", err)
		}
	}
	r.Took = time.Since(p.start).Round(time.Second)
	r.finish()
	return r, nil
}
