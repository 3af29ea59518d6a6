package peers

import (
	"path/filepath"

	"github.com/tidwall/buntdb"
)

var buntdbKind = Kind{
	Name:     "buntdb",
	Module:   "github.com/tidwall/buntdb",
	Expires:  true,
	InMemory: true,
	Notes: map[Regime]string{
		Memory:      `":memory:", no index beside the keys; one transaction a change`,
		WriteBehind: "a file, SyncPolicy EverySecond (the default); one transaction a change",
	},
	Open: openBuntDB,
}

type buntdbPeer struct {
	db   *buntdb.DB
	opt  *buntdb.SetOptions
	blob string
}

func openBuntDB(c Config) (Peer, error) {
	path := ":memory:"
	if c.Regime == WriteBehind {
		path = filepath.Join(c.Dir, "bunt.db")
	}
	db, err := buntdb.Open(path)
	if err != nil {
		return nil, err
	}
	p := &buntdbPeer{db: db, blob: string(newBlob(c.Size))}
	if c.TTL > 0 {
		p.opt = &buntdb.SetOptions{Expires: true, TTL: c.TTL}
	}
	return p, nil
}

func (p *buntdbPeer) Fill(ids []string) error {
	const batch = 10_000
	for from := 0; from < len(ids); from += batch {
		err := p.db.Update(func(tx *buntdb.Tx) error {
			for _, id := range ids[from:min(from+batch, len(ids))] {
				// A copy of its own, as a value that came in a request has.
				if _, _, err := tx.Set(id, string([]byte(p.blob)), p.opt); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *buntdbPeer) Read(id string) (pair Pair, err error) {
	err = p.db.View(func(tx *buntdb.Tx) error {
		v, err := tx.Get(id)
		if err != nil {
			return err
		}
		pair = pairOf([]byte(v[:16]))
		return nil
	})
	return pair, err
}

func (p *buntdbPeer) Change(id string, _ bool) error {
	return p.db.Update(func(tx *buntdb.Tx) error {
		v, err := tx.Get(id)
		if err != nil {
			return err
		}
		b := []byte(v)
		raise(b)
		_, _, err = tx.Set(id, string(b), p.opt)
		return err
	})
}

func (p *buntdbPeer) Create(id string) error { return p.Fill([]string{id}) }

func (p *buntdbPeer) Delete(id string) error {
	return p.db.Update(func(tx *buntdb.Tx) error {
		_, err := tx.Delete(id)
		return err
	})
}

func (p *buntdbPeer) Close() error { return p.db.Close() }
