package peers

import (
	"errors"
	"time"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

var badgerKind = Kind{
	Name:    "badger",
	Module:  "github.com/dgraph-io/badger/v4",
	Expires: true,
	Notes: map[Regime]string{
		WriteBehind: "SyncWrites off; read-modify-write transactions with conflict detection, retried until they commit; no compression, values in the LSM tree",
		Durable:     "SyncWrites on; otherwise as in write-behind",
	},
	Open: openBadger,
}

type badgerPeer struct {
	db   *badger.DB
	ttl  time.Duration
	blob []byte
}

// BadgerOptions are Badger's, for short values that are changed often.
func BadgerOptions(dir string, sync bool) badger.Options {
	return badger.DefaultOptions(dir).
		WithSyncWrites(sync).
		WithLogger(nil).
		WithMetricsEnabled(false).
		WithNumVersionsToKeep(1).
		WithCompression(options.None). // reads then come from the mapped files and need no block cache
		WithBlockCacheSize(0)
}

func openBadger(c Config) (Peer, error) {
	db, err := badger.Open(BadgerOptions(c.Dir, c.Regime == Durable))
	if err != nil {
		return nil, err
	}
	return &badgerPeer{db: db, ttl: c.TTL, blob: newBlob(c.Size)}, nil
}

func (p *badgerPeer) entry(id string, blob []byte) *badger.Entry {
	e := badger.NewEntry([]byte(id), blob)
	if p.ttl > 0 {
		e = e.WithTTL(p.ttl + time.Second) // it cuts the moment down to whole seconds, and a session would live too short
	}
	return e
}

func (p *badgerPeer) Fill(ids []string) error {
	batch := p.db.NewWriteBatch()
	defer batch.Cancel()
	for _, id := range ids {
		if err := batch.SetEntry(p.entry(id, p.blob)); err != nil {
			return err
		}
	}
	return batch.Flush()
}

func (p *badgerPeer) Read(id string) (pair Pair, err error) {
	err = p.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get([]byte(id))
		if err != nil {
			return err
		}
		return item.Value(func(v []byte) error {
			pair = pairOf(v)
			return nil
		})
	})
	return pair, err
}

func (p *badgerPeer) Change(id string, _ bool) error {
	for {
		err := p.db.Update(func(txn *badger.Txn) error {
			item, err := txn.Get([]byte(id))
			if err != nil {
				return err
			}
			v, err := item.ValueCopy(nil)
			if err != nil {
				return err
			}
			raise(v)
			return txn.SetEntry(p.entry(id, v))
		})
		if !errors.Is(err, badger.ErrConflict) {
			return err
		}
	}
}

func (p *badgerPeer) Create(id string) error {
	return p.db.Update(func(txn *badger.Txn) error { return txn.SetEntry(p.entry(id, p.blob)) })
}

func (p *badgerPeer) Delete(id string) error {
	return p.db.Update(func(txn *badger.Txn) error { return txn.Delete([]byte(id)) })
}

func (p *badgerPeer) Close() error { return p.db.Close() }
