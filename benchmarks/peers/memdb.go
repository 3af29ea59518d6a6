package peers

import (
	"strings"

	"github.com/hashicorp/go-memdb"
)

var memdbKind = Kind{
	Name:     "go-memdb",
	Module:   "github.com/hashicorp/go-memdb",
	InMemory: true,
	Notes:    map[Regime]string{Memory: "one table, one index on the id; a change is a write transaction that inserts a changed copy"},
	Open: func(c Config) (Peer, error) {
		_, _, text := fields(c.Size)
		db, err := memdb.NewMemDB(&memdb.DBSchema{Tables: map[string]*memdb.TableSchema{
			memdbTable: {Name: memdbTable, Indexes: map[string]*memdb.IndexSchema{
				"id": {Name: "id", Unique: true, Indexer: &memdb.StringFieldIndex{Field: "ID"}},
			}},
		}})
		return &memdbPeer{db, text}, err
	},
}

const memdbTable = "sessions"

type memdbSession struct {
	ID   string
	A, B int64
	Text string
}

type memdbPeer struct {
	db   *memdb.MemDB
	text string
}

func (p *memdbPeer) Fill(ids []string) error {
	txn := p.db.Txn(true)
	defer txn.Abort()
	for _, id := range ids {
		if err := txn.Insert(memdbTable, &memdbSession{ID: id, Text: strings.Clone(p.text)}); err != nil {
			return err
		}
	}
	txn.Commit()
	return nil
}

func memdbFirst(txn *memdb.Txn, id string) (*memdbSession, error) {
	v, err := txn.First(memdbTable, "id", id)
	if err != nil {
		return nil, err
	}
	s, ok := v.(*memdbSession)
	if !ok {
		return nil, errMissing
	}
	return s, nil
}

func (p *memdbPeer) Read(id string) (Pair, error) {
	txn := p.db.Txn(false)
	defer txn.Abort()
	s, err := memdbFirst(txn, id)
	if err != nil {
		return Pair{}, err
	}
	return Pair{s.A, s.B}, nil
}

func (p *memdbPeer) Change(id string, _ bool) error {
	txn := p.db.Txn(true)
	defer txn.Abort()
	s, err := memdbFirst(txn, id)
	if err != nil {
		return err
	}
	changed := *s
	changed.A++
	changed.B++
	if err := txn.Insert(memdbTable, &changed); err != nil {
		return err
	}
	txn.Commit()
	return nil
}

func (p *memdbPeer) Create(id string) error { return p.Fill([]string{id}) }

func (p *memdbPeer) Delete(id string) error {
	txn := p.db.Txn(true)
	defer txn.Abort()
	if err := txn.Delete(memdbTable, &memdbSession{ID: id}); err != nil {
		return err
	}
	txn.Commit()
	return nil
}

func (p *memdbPeer) Close() error { return nil }
