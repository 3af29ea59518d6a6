package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// A redisServer is a redis-server process of ours and a client of it.
type redisServer struct {
	cmd     *exec.Cmd
	client  *redis.Client
	cleanUp func() error
	size    int
	ttl     time.Duration
}

// startRedis starts the server; ErrUnavailable if it is not installed.
func startRedis(c Config) (*redisServer, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("%w: redis-server is not installed", ErrUnavailable)
	}
	policy := "everysec"
	if c.Regime == Durable {
		policy = "always"
	}
	socket, cleanUp, err := socketPath(c.Dir)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, "--port", "0", "--unixsocket", socket, "--dir", c.Dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", policy, "--loglevel", "warning", "--maxclients", "4096")
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it does not outlive us
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, cleanUp())
	}
	s := &redisServer{cmd: cmd, cleanUp: cleanUp, size: c.Size, ttl: c.TTL, client: redis.NewClient(&redis.Options{
		Network: "unix", Addr: socket, PoolSize: max(c.Callers, 2), MaxRetries: -1, // a retry could count twice
		ReadTimeout: time.Minute, WriteTimeout: time.Minute, PoolTimeout: time.Minute,
	})}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if err = s.client.Ping(context.Background()).Err(); err == nil {
			return s, nil
		}
		if time.Now().After(deadline) {
			err = errors.Join(fmt.Errorf("redis-server does not answer: %w", err), s.Close())
			return nil, fmt.Errorf("%w: %s", err, output.String())
		}
	}
}

// socketPath returns where the server listens: in its directory, or, where that path is longer than a socket's may be,
// in a temporary one, which cleanUp removes.
func socketPath(dir string) (path string, cleanUp func() error, err error) {
	const longest = 107
	if path = filepath.Join(dir, "s"); len(path) <= longest {
		return path, func() error { return nil }, nil
	}
	short, err := os.MkdirTemp("", "redis-")
	if err != nil {
		return "", nil, err
	}
	return filepath.Join(short, "s"), func() error { return os.RemoveAll(short) }, nil
}

// pipeline sends fn's commands for all ids, a thousand at a time.
func (s *redisServer) pipeline(ids []string, fn func(p redis.Pipeliner, id string)) ([]redis.Cmder, error) {
	const batch = 1000
	var all []redis.Cmder
	for from := 0; from < len(ids); from += batch {
		p := s.client.Pipeline()
		for _, id := range ids[from:min(from+batch, len(ids))] {
			fn(p, id)
		}
		done, err := p.Exec(context.Background())
		if err != nil {
			return nil, err
		}
		all = append(all, done...)
	}
	return all, nil
}

func (s *redisServer) Delete(id string) error {
	return s.client.Del(context.Background(), id).Err()
}

// Close ends the server without a last save: its directory is thrown away.
func (s *redisServer) Close() error {
	err := s.client.Close()
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait() // that it was killed is known
	return errors.Join(err, s.cleanUp())
}

// RedisVersion returns what redis-server says of itself, "" if there is none.
func RedisVersion() string {
	out, err := exec.Command("redis-server", "--version").Output()
	if err != nil {
		return ""
	}
	for _, word := range bytes.Fields(out) {
		if v, ok := bytes.CutPrefix(word, []byte("v=")); ok {
			return string(v)
		}
	}
	return ""
}
