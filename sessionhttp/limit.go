package sessionhttp

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"time"

	"github.com/sessile-go/sessile"
)

// The limit of sessions per user. Logins of one user take turns, so that each counts those before it, and the newest one is
// never among the oldest, which are ended after its commit: a login that fails has ended nothing.

// A loginTurn is held by one login at a time, of the users whose names hash to it.
type loginTurn struct {
	taken chan struct{} // holds one element meanwhile

	// Guarded by taken.
	user string    // whose login was the last
	at   time.Time // when that was
}

// loginPace is how far apart two logins of a user are, so that the engine can tell which is newer: its clock ticks every 5 ms, or
// later when the machine is busy.
const loginPace = 50 * time.Millisecond

// takeTurn waits until no other login of the user is under way.
func (m *Manager) takeTurn(ctx context.Context, user string) (release func(), err error) {
	if m.opt.MaxPerUser == 0 {
		return func() {}, nil
	}
	turn := &m.logins[maphash.String(m.seed, user)%uint64(len(m.logins))]
	if m.reentrant(ctx) {
		return nil, sessile.ErrReentrant
	}
	select {
	case turn.taken <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: other logins of the user are under way: %w", sessile.ErrBusy, ctx.Err())
	}
	if wait := loginPace - time.Since(turn.at); turn.user == user && wait > 0 {
		time.Sleep(wait)
	}
	return func() {
		turn.user, turn.at = user, time.Now()
		<-turn.taken
	}, nil
}

// admit returns ErrTooManySessions if the user has no session left to log in with, own not counted.
func (m *Manager) admit(ctx context.Context, user, own string) error {
	if !m.opt.RefuseOverLimit {
		return nil
	}
	n := 0
	for info, err := range m.engine.ByUser(ctx, user) {
		if err != nil {
			return err
		}
		if info.ID != own {
			n++
		}
	}
	if n >= m.opt.MaxPerUser {
		return ErrTooManySessions
	}
	return nil
}

// endOldest ends what a login, which stands, is too many. Its error is sessile.ErrEnded if that is the login itself, because
// of others that this Manager does not make; or sessile.ErrDurabilityUnknown, which leaves the login in place.
func (m *Manager) endOldest(ctx context.Context, user, own string) error {
	if m.opt.MaxPerUser == 0 || m.opt.RefuseOverLimit {
		return nil
	}
	ended, err := m.engine.KeepNewest(ctx, user, m.opt.MaxPerUser)
	switch {
	case slices.Contains(ended, own):
		return sessile.ErrEnded
	case err != nil && !errors.Is(err, sessile.ErrDurabilityUnknown):
		return fmt.Errorf("%w: the user's oldest sessions may not have been ended: %w", sessile.ErrDurabilityUnknown, err)
	}
	return err
}
