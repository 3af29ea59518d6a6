package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/sessile-go/sessile"
)

// A populateQuestion asks a child to fill a directory with sessions, and to close it or to be killed.
type populateQuestion struct {
	Dir      string
	Sessions int
	Updates  int  // durable in the log, spread over the sessions
	Crash    bool // do not close: wait to be killed
	LogOnly  bool // no checkpoints
}

// A populateAnswer is sent when everything is on disk.
type populateAnswer struct {
	LogBytes    int64
	Checkpoints uint64
	Error       string
}

// populateChild has a child fill a directory, and ends it as asked.
func populateChild(ctx context.Context, q populateQuestion) (a populateAnswer, err error) {
	p, err := start(ctx, "populate")
	if err != nil {
		return a, err
	}
	defer p.kill()
	if err := p.ask(q, &a); err != nil {
		return a, err
	}
	if a.Error != "" {
		return a, childError(a.Error)
	}
	if q.Crash {
		p.kill()
		return a, nil
	}
	return a, p.finish()
}

// A childError is an error that a child reported.
type childError string

// Error returns the child's text.
func (e childError) Error() string { return string(e) }

// servePopulate is the child.
func servePopulate(in io.Reader, out io.Writer) error {
	lines := json.NewDecoder(bufio.NewReader(in))
	var q populateQuestion
	if err := lines.Decode(&q); err != nil {
		return err
	}
	e, a, err := q.fill(context.Background())
	if err != nil {
		a.Error = err.Error()
	}
	if err == nil && !q.Crash {
		if err := e.Close(); err != nil {
			a.Error = err.Error()
		}
	}
	if err := json.NewEncoder(out).Encode(a); err != nil {
		return err
	}
	var end any
	_ = lines.Decode(&end) // until the parent closes the pipe, or kills
	return nil
}

func (q populateQuestion) fill(ctx context.Context) (*sessile.Engine, populateAnswer, error) {
	opt := sessile.Options{Dir: q.Dir, MaxMemory: 16 << 30}
	if q.LogOnly {
		opt.CheckpointInterval, opt.MaxLogBytes = time.Hour, 64<<30
	}
	e, err := sessile.Open(opt)
	if err != nil {
		return nil, populateAnswer{}, err
	}
	for i := range q.Sessions {
		if err := e.CreateID(ctx, idOf(uint64(i)), fillCounter); err != nil {
			return nil, populateAnswer{}, err
		}
	}
	for i := range q.Updates {
		id := idOf(mix(uint64(i)) % uint64(q.Sessions))
		if err := e.Update(ctx, id, func(tx sessile.Txn) error { return counter.Set(tx, int64(i)) }); err != nil {
			return nil, populateAnswer{}, err
		}
	}
	if err := e.Flush(ctx); err != nil {
		return nil, populateAnswer{}, err
	}
	s := e.Stats()
	return e, populateAnswer{LogBytes: s.LogBytes, Checkpoints: s.Checkpoints}, nil
}
