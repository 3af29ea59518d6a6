package peers

import (
	"strings"
	"sync"

	"github.com/puzpuzpuz/xsync/v3"
)

var xsyncKind = Kind{
	Name:     "xsync map + mutex",
	Module:   "github.com/puzpuzpuz/xsync/v3",
	InMemory: true,
	Notes:    map[Regime]string{Memory: "by hand: MapOf of pointers to a struct with a mutex; nothing expires, nothing is bounded"},
	Open: func(c Config) (Peer, error) {
		_, _, text := fields(c.Size)
		return &xsyncPeer{m: xsync.NewMapOf[string, *xsyncSession](), text: text}, nil
	},
}

type xsyncSession struct {
	mu   sync.Mutex
	a, b int64
	text string
}

type xsyncPeer struct {
	m    *xsync.MapOf[string, *xsyncSession]
	text string
}

func (p *xsyncPeer) Fill(ids []string) error {
	for _, id := range ids {
		if err := p.Create(id); err != nil {
			return err
		}
	}
	return nil
}

func (p *xsyncPeer) Read(id string) (Pair, error) {
	s, ok := p.m.Load(id)
	if !ok {
		return Pair{}, errMissing
	}
	s.mu.Lock()
	pair := Pair{s.a, s.b}
	s.mu.Unlock()
	return pair, nil
}

func (p *xsyncPeer) Change(id string, _ bool) error {
	s, ok := p.m.Load(id)
	if !ok {
		return errMissing
	}
	s.mu.Lock()
	s.a++
	s.b++
	s.mu.Unlock()
	return nil
}

func (p *xsyncPeer) Create(id string) error {
	p.m.Store(id, &xsyncSession{text: strings.Clone(p.text)})
	return nil
}

func (p *xsyncPeer) Delete(id string) error {
	p.m.Delete(id)
	return nil
}

func (p *xsyncPeer) Close() error { return nil }
