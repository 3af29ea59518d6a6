package peers

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

var fdatasyncKind = Kind{
	Name:      "fdatasync alone",
	WriteOnly: true,
	Notes: map[Regime]string{
		Durable: "no store: 512 bytes written over a preallocated file and fdatasync, one after another; what one synced write costs here",
	},
	Open: openFdatasync,
}

// fdatasyncSize is written in advance, so that no write extends the file.
const fdatasyncSize = 16 << 20

// A fdatasyncPeer has no sessions: it only writes.
type fdatasyncPeer struct {
	mu    sync.Mutex
	file  *os.File
	at    int64
	block [512]byte
}

// ErrNoSessions is returned by a peer that has no sessions to read.
var ErrNoSessions = errors.New("the peer has no sessions")

func openFdatasync(c Config) (Peer, error) {
	f, err := os.Create(filepath.Join(c.Dir, "log"))
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(make([]byte, fdatasyncSize)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &fdatasyncPeer{file: f}, f.Sync()
}

func (p *fdatasyncPeer) Fill([]string) error       { return nil }
func (p *fdatasyncPeer) Read(string) (Pair, error) { return Pair{}, ErrNoSessions }

func (p *fdatasyncPeer) Change(string, bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.file.WriteAt(p.block[:], p.at); err != nil {
		return err
	}
	p.at = (p.at + int64(len(p.block))) % fdatasyncSize
	return syscall.Fdatasync(int(p.file.Fd()))
}

func (p *fdatasyncPeer) Create(string) error { return p.Change("", false) }
func (p *fdatasyncPeer) Delete(string) error { return nil }
func (p *fdatasyncPeer) Close() error        { return p.file.Close() }
