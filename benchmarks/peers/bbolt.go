package peers

import (
	"bytes"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
)

var bboltKind = Kind{
	Name:   "bbolt",
	Module: "go.etcd.io/bbolt",
	Notes: map[Regime]string{
		WriteBehind: "NoSync, freelist as a map and not written; one transaction a change",
		Durable:     "synced; Batch, which combines the changes of callers that wait (MaxBatchSize: the callers, MaxBatchDelay 1 ms)",
	},
	Open: openBolt,
}

var boltBucket = []byte("sessions")

type boltPeer struct {
	db      *bolt.DB
	durable bool
	blob    []byte
}

func openBolt(c Config) (Peer, error) {
	db, err := bolt.Open(filepath.Join(c.Dir, "bolt.db"), 0o600, &bolt.Options{
		NoSync: true, NoGrowSync: true, NoFreelistSync: true, FreelistType: bolt.FreelistMapType,
	})
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(boltBucket)
		return err
	})
	if err != nil {
		return nil, err
	}
	db.MaxBatchSize, db.MaxBatchDelay = max(1, c.Callers), time.Millisecond
	return &boltPeer{db: db, durable: c.Regime == Durable, blob: newBlob(c.Size)}, nil
}

func (p *boltPeer) Fill(ids []string) error {
	const batch = 50_000
	for from := 0; from < len(ids); from += batch {
		err := p.db.Update(func(tx *bolt.Tx) error {
			b := tx.Bucket(boltBucket)
			for _, id := range ids[from:min(from+batch, len(ids))] {
				if err := b.Put([]byte(id), p.blob); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if p.durable {
		if err := p.db.Sync(); err != nil {
			return err
		}
		p.db.NoSync = false // only the filling went without
	}
	return nil
}

func (p *boltPeer) Read(id string) (pair Pair, err error) {
	err = p.db.View(func(tx *bolt.Tx) error {
		v := tx.Bucket(boltBucket).Get([]byte(id))
		if v == nil {
			return errMissing
		}
		pair = pairOf(v)
		return nil
	})
	return pair, err
}

// update runs fn as the regime has it. fn can run more than once.
func (p *boltPeer) update(fn func(*bolt.Bucket) error) error {
	run := p.db.Update
	if p.durable {
		run = p.db.Batch
	}
	return run(func(tx *bolt.Tx) error { return fn(tx.Bucket(boltBucket)) })
}

func (p *boltPeer) Change(id string, _ bool) error {
	return p.update(func(b *bolt.Bucket) error {
		v := bytes.Clone(b.Get([]byte(id)))
		if v == nil {
			return errMissing
		}
		raise(v)
		return b.Put([]byte(id), v)
	})
}

func (p *boltPeer) Create(id string) error {
	return p.update(func(b *bolt.Bucket) error { return b.Put([]byte(id), p.blob) })
}

func (p *boltPeer) Delete(id string) error {
	return p.update(func(b *bolt.Bucket) error { return b.Delete([]byte(id)) })
}

func (p *boltPeer) Close() error { return p.db.Close() }
