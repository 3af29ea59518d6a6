package peers

import (
	"bytes"
	"context"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
)

var scsKind = Kind{
	Name:          "scs memstore",
	Module:        "github.com/alexedwards/scs/v2",
	Expires:       true,
	InMemory:      true,
	LoadsAndSaves: true,
	Notes:         map[Regime]string{Memory: "Load, Put, Commit, as its middleware does around a handler; gob, the default codec"},
	Open:          openSCS,
}

// scsPeer is scs as its LoadAndSave middleware uses it.
type scsPeer struct {
	m       *scs.SessionManager
	store   *memstore.MemStore
	encoded []byte // a new session
	life    time.Duration
}

func openSCS(c Config) (Peer, error) {
	life := 24 * time.Hour
	if c.TTL > 0 {
		life = c.TTL
	}
	store := memstore.NewWithCleanupInterval(time.Second)
	m := scs.New()
	m.Store, m.Lifetime = store, life
	csrf, name, profile := fields(c.Size)
	values := map[string]any{"a": int64(0), "b": int64(0), "csrf": csrf, "name": name, "profile": profile}
	encoded, err := m.Codec.Encode(time.Now().Add(life).UTC(), values)
	if err != nil {
		return nil, err
	}
	return &scsPeer{m: m, store: store, encoded: encoded, life: life}, nil
}

func (p *scsPeer) Fill(ids []string) error {
	for _, id := range ids {
		if err := p.store.Commit(id, bytes.Clone(p.encoded), time.Now().Add(p.life)); err != nil {
			return err
		}
	}
	return nil
}

func (p *scsPeer) load(id string) (context.Context, error) {
	ctx, err := p.m.Load(context.Background(), id)
	if err == nil && p.m.Token(ctx) == "" {
		err = errMissing
	}
	return ctx, err
}

func (p *scsPeer) Read(id string) (Pair, error) {
	ctx, err := p.load(id)
	if err != nil {
		return Pair{}, err
	}
	return Pair{p.m.GetInt64(ctx, "a"), p.m.GetInt64(ctx, "b")}, nil
}

func (p *scsPeer) Change(id string, _ bool) error {
	ctx, err := p.load(id) // decodes all fields
	if err != nil {
		return err
	}
	p.m.Put(ctx, "a", p.m.GetInt64(ctx, "a")+1)
	p.m.Put(ctx, "b", p.m.GetInt64(ctx, "b")+1)
	_, _, err = p.m.Commit(ctx)
	return err
}

// Create encodes the session, as a request that makes one does.
func (p *scsPeer) Create(id string) error {
	_, values, err := p.m.Codec.Decode(p.encoded)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(p.life)
	b, err := p.m.Codec.Encode(deadline.UTC(), values)
	if err != nil {
		return err
	}
	return p.store.Commit(id, b, deadline)
}

func (p *scsPeer) Delete(id string) error { return p.store.Delete(id) }

func (p *scsPeer) Close() error {
	p.store.StopCleanup()
	return nil
}

// Add raises the first counter.
func (p *scsPeer) Add(id string) error {
	ctx, err := p.load(id)
	if err != nil {
		return err
	}
	p.m.Put(ctx, "a", p.m.GetInt64(ctx, "a")+1)
	_, _, err = p.m.Commit(ctx)
	return err
}
