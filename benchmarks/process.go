package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// roleVariable says to a process of this program that it is a child, and which.
const roleVariable = "SESSILE_BENCHMARK_CHILD"

// child does what the variable asks for, and reports whether it did.
func child() bool {
	var err error
	switch os.Getenv(roleVariable) {
	case "":
		return false
	case "row":
		err = serveRow(os.Stdin, os.Stdout)
	case "job":
		err = serveJob(os.Stdin, os.Stdout)
	case "populate":
		err = servePopulate(os.Stdin, os.Stdout)
	default:
		err = fmt.Errorf("unknown role %q", os.Getenv(roleVariable))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}

// A process is a child of this program with which one line of JSON is exchanged after another. It leads
// a process group, to which the servers that it starts belong.
type process struct {
	cmd      *exec.Cmd
	in       io.WriteCloser
	enc      *json.Encoder
	dec      *json.Decoder
	stderr   bytes.Buffer
	once     sync.Once
	patience time.Duration // bounds one exchange
}

// start starts a child. It is killed when ctx ends, and when this process does.
func start(ctx context.Context, role string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.CommandContext(ctx, self), patience: patience}
	p.cmd.Env = append(os.Environ(), roleVariable+"="+role)
	p.cmd.Stderr = &p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.cmd.Cancel = func() error { return p.signal(syscall.SIGKILL) }
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.enc, p.dec = json.NewEncoder(p.in), json.NewDecoder(out)
	return p, p.cmd.Start()
}

// patience is how long an exchange may take, where nothing is asked for that lasts longer.
var patience = 10 * time.Minute

// ask sends a line and waits for the answer.
func (p *process) ask(question, answer any) error {
	guard := time.AfterFunc(p.patience, func() { _ = p.signal(syscall.SIGKILL) })
	err := p.enc.Encode(question)
	if err == nil {
		err = p.dec.Decode(answer)
	}
	inTime := guard.Stop()
	switch {
	case err == nil:
		return nil
	case !inTime:
		return p.failure(fmt.Errorf("no answer in %s", p.patience))
	}
	return p.failure(err)
}

// failure adds what the child said before it died.
func (p *process) failure(err error) error {
	p.kill()
	text := strings.TrimSpace(p.stderr.String())
	if len(text) > 2000 {
		text = text[:2000]
	}
	if text == "" {
		return fmt.Errorf("child process: %w", err)
	}
	return fmt.Errorf("child process: %w: %s", err, text)
}

// signal sends a signal to the child and the servers it started.
func (p *process) signal(s syscall.Signal) error {
	return syscall.Kill(-p.cmd.Process.Pid, s)
}

// pause stops the child and its servers, resume lets them go on.
func (p *process) pause()  { _ = p.signal(syscall.SIGSTOP) }
func (p *process) resume() { _ = p.signal(syscall.SIGCONT) }

// finish lets the child end by itself, and returns why it did not.
func (p *process) finish() (err error) {
	p.once.Do(func() {
		guard := time.AfterFunc(p.patience, func() { _ = p.signal(syscall.SIGKILL) })
		defer guard.Stop()
		_ = p.in.Close()
		if err = p.cmd.Wait(); err != nil {
			err = errors.Join(err, errors.New(strings.TrimSpace(p.stderr.String())))
		}
	})
	return err
}

// kill ends the child and what it started at once.
func (p *process) kill() {
	p.once.Do(func() {
		_ = p.signal(syscall.SIGKILL)
		_ = p.in.Close()
		_ = p.cmd.Wait()
	})
}
