package peers

import (
	"hash/maphash"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

var pebbleKind = Kind{
	Name:   "pebble",
	Module: "github.com/cockroachdb/pebble/v2",
	Notes: map[Regime]string{
		WriteBehind: "NoSync, 64 MiB memtables, block cache of 256 MiB or the limit of the workload; it has no transactions: get and set under one of 4,096 mutexes",
		Durable:     "Sync; otherwise as in write-behind",
	},
	Open: openPebble,
}

type pebblePeer struct {
	db    *pebble.DB
	write *pebble.WriteOptions
	blob  []byte
	seed  maphash.Seed
	locks [4096]sync.Mutex
}

type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(f string, a ...any) {
	pebble.DefaultLogger.Fatalf(f, a...)
}

func openPebble(c Config) (Peer, error) {
	size := int64(256 << 20)
	if c.MaxMemory > 0 {
		size = c.MaxMemory
	}
	cache := pebble.NewCache(size)
	defer cache.Unref()
	db, err := pebble.Open(c.Dir, &pebble.Options{
		Cache: cache, MemTableSize: 64 << 20, Logger: quiet{}, FormatMajorVersion: pebble.FormatNewest,
	})
	if err != nil {
		return nil, err
	}
	p := &pebblePeer{db: db, write: pebble.NoSync, blob: newBlob(c.Size), seed: maphash.MakeSeed()}
	if c.Regime == Durable {
		p.write = pebble.Sync
	}
	return p, nil
}

func (p *pebblePeer) lock(id string) *sync.Mutex {
	return &p.locks[maphash.String(p.seed, id)%uint64(len(p.locks))]
}

func (p *pebblePeer) Fill(ids []string) error {
	const batch = 10_000
	for from := 0; from < len(ids); from += batch {
		b := p.db.NewBatch()
		for _, id := range ids[from:min(from+batch, len(ids))] {
			if err := b.Set([]byte(id), p.blob, nil); err != nil {
				return err
			}
		}
		if err := b.Commit(pebble.NoSync); err != nil {
			return err
		}
	}
	return nil
}

func (p *pebblePeer) Read(id string) (Pair, error) {
	v, closer, err := p.db.Get([]byte(id))
	if err != nil {
		return Pair{}, err
	}
	pair := pairOf(v)
	return pair, closer.Close()
}

func (p *pebblePeer) Change(id string, _ bool) error {
	mu := p.lock(id)
	mu.Lock()
	defer mu.Unlock()
	key := []byte(id)
	v, closer, err := p.db.Get(key)
	if err != nil {
		return err
	}
	b := append([]byte(nil), v...)
	if err := closer.Close(); err != nil {
		return err
	}
	raise(b)
	return p.db.Set(key, b, p.write)
}

func (p *pebblePeer) Create(id string) error { return p.db.Set([]byte(id), p.blob, p.write) }

func (p *pebblePeer) Delete(id string) error { return p.db.Delete([]byte(id), p.write) }

func (p *pebblePeer) Close() error { return p.db.Close() }
