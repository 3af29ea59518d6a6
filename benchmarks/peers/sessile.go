package peers

import (
	"context"
	"errors"
	"fmt"

	"github.com/sessile-go/sessile"
)

var sessileKind = Kind{
	Name:    "sessile",
	Module:  "github.com/sessile-go/sessile",
	Expires: true,
	Notes: map[Regime]string{
		Memory:      "Options.InMemory",
		WriteBehind: "Options.Dir, FlushInterval 100 ms (the default), checkpoints at the interval stated for the run (default 30 s)",
		Durable:     "Options.Dir, tx.Durable() in each change",
	},
	Open: openSessile,
}

var (
	keyA       = sessile.NewKey[int64]("a")
	keyB       = sessile.NewKey[int64]("b")
	keyCSRF    = sessile.NewKey[string]("csrf")
	keyName    = sessile.NewKey[string]("name")
	keyProfile = sessile.NewKey[string]("profile")
)

type sessilePeer struct {
	engine  *sessile.Engine
	durable bool
	fill    func(sessile.Txn) error
}

func openSessile(c Config) (Peer, error) {
	opt := sessile.Options{
		Dir: c.Dir, MaxMemory: c.MaxMemory, IdleTimeout: c.TTL, CheckpointInterval: c.Checkpoint, MaxSessionSize: max(64<<10, 2*c.Size),
	}
	if c.Regime == Memory {
		opt.Dir, opt.InMemory, opt.CheckpointInterval = "", true, 0
	}
	if opt.MaxMemory == 0 {
		opt.MaxMemory = 8 << 30
	}
	e, err := sessile.Open(opt)
	if err != nil {
		return nil, err
	}
	return &sessilePeer{engine: e, durable: c.Regime == Durable, fill: SessileFill(c.Size)}, nil
}

// SessileFill returns a callback that makes a session of size bytes.
func SessileFill(size int) func(sessile.Txn) error {
	csrf, name, profile := fields(size)
	return func(tx sessile.Txn) error {
		return errors.Join(keyA.Set(tx, 0), keyB.Set(tx, 0), keyCSRF.Set(tx, csrf), keyName.Set(tx, name), keyProfile.Set(tx, profile))
	}
}

func (p *sessilePeer) Fill(ids []string) error {
	ctx := context.Background()
	for _, id := range ids {
		if err := p.engine.CreateID(ctx, id, p.fill); err != nil {
			return err
		}
	}
	return p.engine.Flush(ctx)
}

func (p *sessilePeer) Read(id string) (pair Pair, err error) {
	err = p.engine.View(context.Background(), id, func(tx sessile.Txn) (err error) {
		if pair.A, err = keyA.Get(tx); err != nil {
			return err
		}
		pair.B, err = keyB.Get(tx)
		return err
	})
	return pair, err
}

func (p *sessilePeer) Change(id string, whole bool) error {
	return p.engine.Update(context.Background(), id, func(tx sessile.Txn) error {
		if p.durable {
			tx.Durable()
		}
		if whole {
			n := 0
			for _, v := range tx.All() {
				n += len(v)
			}
			if n == 0 {
				return fmt.Errorf("session %s is empty", id)
			}
		}
		if _, err := sessile.Add(tx, keyA, 1); err != nil {
			return err
		}
		_, err := sessile.Add(tx, keyB, 1)
		return err
	})
}

func (p *sessilePeer) Create(id string) error {
	return p.engine.CreateID(context.Background(), id, func(tx sessile.Txn) error {
		if p.durable {
			tx.Durable()
		}
		return p.fill(tx)
	})
}

func (p *sessilePeer) Delete(id string) error { return p.engine.Delete(context.Background(), id) }

func (p *sessilePeer) Close() error { return p.engine.Close() }
