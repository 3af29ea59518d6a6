package scsstore

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sessile-go/sessile"
)

// ErrGone is returned by a commit to a session that has ended since the request loaded it. Nothing was applied.
var ErrGone = errors.New("scsstore: session has ended")

// ErrCodec is returned when the manager's Store and Codec do not belong together, or one of them is wrapped in something that
// does not hand on what it is given.
var ErrCodec = errors.New("scsstore: data is not from this store's Codec: set SessionManager.Store and .Codec from the same Store")

// MaxKeyLen is the greatest length of a key of scs's, in bytes.
const MaxKeyLen = sessile.MaxKeyLen - len(valuePrefix)

const (
	valuePrefix = "scs." // of the fields that are scs's values
	keyMeta     = "\x00scs"

	// A name stands for a session's token where the token is not known: this and the id. A cookie cannot carry it,
	// and Find does not know it.
	namePrefix = "\x00"

	// opTimeout bounds what goes on when the request is cancelled.
	opTimeout = 10 * time.Second

	// endPatience is how long Delete waits for the session's lock, in order to learn what the session last was.
	endPatience = time.Second
)

// Options configure a Store. The zero value is a sound default.
type Options struct {
	// Prefix begins the ids of the store's sessions in the engine. Stores of one engine that must not know each other's
	// sessions need different ones. "scs:" unless set.
	Prefix string

	// OnDecodeError is asked when a value cannot be decoded. Its error fails the request; nil makes the value count as
	// absent, as it does without OnDecodeError. id is the session's in the engine.
	OnDecodeError func(id, key string, err error) error
}

// A Store is an scs store on an engine. It goes together with its Codec. It implements scs.CtxStore, scs.IterableStore
// and scs.IterableCtxStore, and is safe for concurrent use. Close the engine after the HTTP server.
type Store struct {
	engine *sessile.Engine
	opt    Options
	mark   [8]byte // of data that this store and its codec have made
	loads  loads
	ends   endings
}

// New makes a Store. The error names the option that is out of range.
func New(engine *sessile.Engine, opt Options) (*Store, error) {
	if engine == nil {
		return nil, errors.New("scsstore: no engine")
	}
	if opt.Prefix == "" {
		opt.Prefix = "scs:"
	}
	s := &Store{engine: engine, opt: opt}
	if n := len(s.ID("")); n > sessile.MaxIDLen {
		return nil, fmt.Errorf("scsstore: Options.Prefix: ids would have %d bytes, more than %d", n, sessile.MaxIDLen)
	}
	rand.Read(s.mark[:])
	s.loads.init()
	return s, nil
}

// ID returns the engine's id of the session with the token: a name, not a secret.
func (s *Store) ID(token string) string {
	sum := sha256.Sum256([]byte(token))
	return s.opt.Prefix + base64.RawURLEncoding.EncodeToString(sum[:])
}

// idOf is ID for what may also be a name from AllCtx.
func (s *Store) idOf(token string) string {
	if id, ok := strings.CutPrefix(token, namePrefix); ok {
		return id
	}
	return s.ID(token)
}

// detach returns a context that the request's end does not end.
func detach(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), opTimeout)
}

// FindCtx returns the data of the session with the token.
func (s *Store) FindCtx(ctx context.Context, token string) (b []byte, found bool, err error) {
	return s.find(ctx, s.ID(token))
}

// Find is FindCtx without a context.
func (s *Store) Find(token string) ([]byte, bool, error) {
	return s.FindCtx(context.Background(), token)
}

func (s *Store) find(ctx context.Context, id string) (b []byte, found bool, err error) {
	err = s.engine.View(ctx, id, func(tx sessile.Txn) error {
		m, ok := readMeta(tx)
		if !ok {
			return nil // some other package's session
		}
		found = true
		b = s.encodeLoaded(id, m, tx)
		return nil
	})
	if errors.Is(err, sessile.ErrNotFound) {
		return nil, false, nil
	}
	return b, found, err
}

// AllCtx returns the data of the store's sessions. Their tokens are not known; what stands for them is good for DeleteCtx and
// CommitCtx, and for nothing else.
func (s *Store) AllCtx(ctx context.Context) (map[string][]byte, error) {
	all := make(map[string][]byte)
	for info, err := range s.engine.All(ctx) {
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(info.ID, s.opt.Prefix) {
			continue
		}
		b, found, err := s.find(ctx, info.ID)
		if err != nil {
			return nil, err
		}
		if found {
			all[namePrefix+info.ID] = b
		}
	}
	return all, nil
}

// All is AllCtx without a context.
func (s *Store) All() (map[string][]byte, error) { return s.AllCtx(context.Background()) }

// DeleteCtx ends the session, for good. It goes on when ctx ends, and waits a second at most for a transaction of the engine's that
// holds the session, which then commits nothing. With an error about durability the session has ended all
// the same, but may be back after a crash.
func (s *Store) DeleteCtx(ctx context.Context, token string) error {
	id := s.idOf(token)
	end := s.ends.begin(id, ctx.Done())
	ctx, cancel := detach(ctx)
	defer cancel()
	short, cancelShort := context.WithTimeout(ctx, endPatience)
	defer cancelShort()
	var last remains
	err := s.engine.Update(short, id, func(tx sessile.Txn) error {
		last = remainsOf(tx)
		return tx.Destroy()
	})
	if err == nil || errors.Is(err, sessile.ErrDurabilityUnknown) {
		s.ends.won(end, last)
	}
	if err != nil {
		// Delete waits for nobody, and also for the durability of an earlier end.
		err = s.engine.Delete(ctx, id)
	}
	return err
}

// Delete is DeleteCtx without a context.
func (s *Store) Delete(token string) error { return s.DeleteCtx(context.Background(), token) }
