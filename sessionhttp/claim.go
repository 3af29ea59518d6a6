package sessionhttp

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/sessile-go/sessile"
)

// What keeps commits and their cookies together; see [Session].

// waitLimit bounds the wait for another goroutine of the request that makes its session.
const waitLimit = 5 * time.Second

// begin waits until no other call of this handle may set a cookie. release ends this one's turn.
func (s *Session) begin(ctx context.Context) (release func(), err error) {
	if ctx == nil {
		ctx = context.Background()
	}
	var timeout <-chan time.Time
	for {
		s.mu.Lock()
		if s.sealed {
			s.mu.Unlock()
			return nil, ErrHeadersSent
		}
		busy := s.busy
		if busy == nil {
			busy = make(chan struct{})
			s.busy = busy
			s.mu.Unlock()
			return func() {
				s.mu.Lock()
				s.endClaimLocked() // of a callback that panicked, or of a commit that failed
				s.busy = nil
				s.mu.Unlock()
				close(busy)
			}, nil
		}
		s.mu.Unlock()
		if timeout == nil {
			// The callback of the other call may be what calls us.
			if s.m.reentrant(ctx) {
				return nil, sessile.ErrReentrant
			}
			timer := time.NewTimer(waitLimit)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-busy:
		case <-timeout:
			return nil, sessile.ErrBusy
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// reentrant reports whether ctx is that of a callback, which would wait for itself.
func (m *Manager) reentrant(ctx context.Context) bool {
	err := m.engine.ViewMany(ctx, nil, func([]sessile.Txn) error { return nil })
	return errors.Is(err, sessile.ErrReentrant)
}

// claim is the last step of a callback whose commit needs a cookie.
func (s *Session) claim() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sealed {
		return ErrHeadersSent
	}
	s.claimed = make(chan struct{})
	return nil
}

func (s *Session) endClaimLocked() {
	if s.claimed != nil {
		close(s.claimed)
		s.claimed = nil
	}
}

// awaitClaimLocked waits, without the lock, while there is a claim.
func (s *Session) awaitClaimLocked() {
	for s.claimed != nil {
		claimed := s.claimed
		s.mu.Unlock()
		<-claimed
		s.mu.Lock()
	}
}

// conclude ends the claim with the commit's result. It reports whether the commit stands; then the handle
// goes on with its grant, and the cookie is sent.
func (s *Session) conclude(err error, next sessile.Grant, token string, remember bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.endClaimLocked()
	if s.claimed == nil || err != nil && !errors.Is(err, sessile.ErrDurabilityUnknown) {
		return false
	}
	s.setLocked(bound, next, nil)
	s.used = true
	s.clear = false
	s.sendLocked(s.m.cookie(token, remember))
	return true
}

// sendLocked delivers a cookie, or keeps it for the header.
func (s *Session) sendLocked(c *http.Cookie) {
	if s.deliver != nil {
		s.deliver(c)
		return
	}
	s.pending = c
}

// seal writes what is pending to the header, which is about to go out. Nothing more can be set then.
func (s *Session) seal(h http.Header) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.awaitClaimLocked()
	s.sealed = true
	if s.pending != nil {
		h.Add("Set-Cookie", s.pending.String())
		h.Set("Cache-Control", "no-store")
		s.pending = nil
	}
	if s.clear && s.m.opt.ClearSiteData != "" {
		h.Set("Clear-Site-Data", s.m.opt.ClearSiteData)
	}
	s.clear = false
}

// returned is called when the handler has, also by a panic.
func (s *Session) returned(w http.ResponseWriter) {
	s.mu.Lock()
	sealed := s.sealed
	s.mu.Unlock()
	if !sealed {
		s.seal(w.Header())
	}
}

// WriteCookies writes the cookie that is to be set, if there is one, to h instead of the response's header, and seals the
// handle: for libraries that answer an upgrade with a header of their own.
func (s *Session) WriteCookies(h http.Header) {
	if s.m != nil {
		s.seal(h)
	}
}

// Seal says that no cookie can be set any more: for transports, before they send the header.
func (s *Session) Seal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.awaitClaimLocked()
	s.sealed = true
}
