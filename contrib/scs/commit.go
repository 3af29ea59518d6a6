package scsstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/sessile-go/sessile"
)

// CommitCtx applies what a request changed. b is what the store's Codec has just encoded. It goes on when ctx ends, since a
// session that RenewToken has moved would else be lost.
//
// It returns [ErrGone] when the session has ended since it was loaded, [ErrCodec] for other data, and the engine's errors,
// such as sessile.ErrTooLarge and sessile.ErrInvalidKey. Only with sessile.ErrDurabilityUnknown, which a renewal can
// return, was anything applied.
func (s *Store) CommitCtx(ctx context.Context, token string, b []byte, expiry time.Time) error {
	b, err := s.body(headSave, b)
	if err != nil || len(b) != 8 {
		return ErrCodec
	}
	ld := s.loads.numbered(binary.LittleEndian.Uint64(b))
	if ld == nil {
		return ErrCodec
	}
	ld.mu.Lock()
	defer ld.mu.Unlock()
	if ld.next == nil {
		return ErrCodec
	}
	c := commit{s, ld, ld.next, s.idOf(token), time.Now(), expiry}
	done := ctx.Done()
	ctx, cancel := detach(ctx)
	defer cancel()
	switch {
	case ld.id == c.id:
		err = c.update(ctx)
	case ld.id != "" && ld.next.changes.Kept > 0:
		err = c.renew(ctx, done)
	default:
		// A new session, or what was put after a Destroy, of which nothing is left.
		err = c.create(ctx, c.fill)
	}
	if err == nil || errors.Is(err, sessile.ErrDurabilityUnknown) {
		ld.id, ld.deadline, ld.known, ld.next = c.id, c.save.deadline, c.save.changes.After, nil
	}
	return err
}

// Commit is CommitCtx without a context.
func (s *Store) Commit(token string, b []byte, expiry time.Time) error {
	return s.CommitCtx(context.Background(), token, b, expiry)
}

type commit struct {
	s      *Store
	load   *load
	save   *save
	id     string // of the session committed to
	now    time.Time
	expiry time.Time
}

// update changes the session that the request has loaded, or made before. Without changes it touches it.
func (c commit) update(ctx context.Context) error {
	err := c.s.engine.Update(ctx, c.id, func(tx sessile.Txn) error {
		if err := c.save.changes.Apply(tx); err != nil {
			return err
		}
		old, _ := readMeta(tx)
		m := old
		if !c.save.deadline.Equal(c.load.deadline) {
			m.deadline = c.save.deadline
		}
		m.idle = idleTimeout(old.idle, c.now, c.expiry, c.save.deadline)
		if m == old {
			return nil
		}
		return m.stage(tx)
	})
	if errors.Is(err, sessile.ErrNotFound) {
		return ErrGone
	}
	return err
}

func (c commit) create(ctx context.Context, fill func(sessile.Txn) error) error {
	err := c.s.engine.CreateID(ctx, c.id, func(tx sessile.Txn) error {
		if err := fill(tx); err != nil {
			return err
		}
		idle := idleTimeout(0, c.now, c.expiry, c.save.deadline)
		return meta{c.save.deadline, idle}.stage(tx)
	})
	if errors.Is(err, sessile.ErrExists) {
		return fmt.Errorf("%w (the values were not loaded by it)", ErrCodec)
	}
	return err
}

// fill sets all values as the request has them.
func (c commit) fill(tx sessile.Txn) error {
	for key, value := range c.save.changes.After.Fields() {
		if err := tx.Set(key, value); err != nil {
			return fmt.Errorf("%q: %w", key, err)
		}
	}
	return nil
}

// renew moves the session that the request has ended with RenewToken to its new id: as it last was, with the changes of the
// request. It is durable, since the old one's end is.
//
// Where the request has also removed keys, the values are those that the request has, and no others: it may have called
// Destroy and put back what it wanted to keep, which to a store looks the same.
func (c commit) renew(ctx context.Context, done <-chan struct{}) error {
	left, ok := c.s.ends.of(c.load.id, done)
	if !ok {
		return ErrGone
	}
	exactly := c.save.changes.Removed > 0
	err := c.create(ctx, func(tx sessile.Txn) error {
		tx.Durable()
		if err := tx.SetUser(left.user); err != nil {
			return err
		}
		for key, value := range left.fields {
			if exactly && strings.HasPrefix(key, valuePrefix) {
				continue
			}
			if err := tx.Set(key, value); err != nil {
				return err
			}
		}
		if exactly {
			return c.fill(tx)
		}
		return c.save.changes.Apply(tx)
	})
	if err == nil || errors.Is(err, sessile.ErrDurabilityUnknown) {
		c.s.ends.taken(c.load.id)
	}
	return err
}

// IgnoreGone returns an ErrorFunc for a SessionManager that answers a late commit to an ended session by leaving the
// response as it is, without a cookie: the browser has a newer one, or none. Other errors go to next, or, when it is nil, are
// answered with status 500.
func IgnoreGone(next func(http.ResponseWriter, *http.Request, error)) func(http.ResponseWriter, *http.Request, error) {
	return func(w http.ResponseWriter, r *http.Request, err error) {
		switch {
		case errors.Is(err, ErrGone):
		case next != nil:
			next(w, r, err)
		default:
			http.Error(w, http.StatusText(http.StatusInternalServerError), http.StatusInternalServerError)
		}
	}
}
