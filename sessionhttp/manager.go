package sessionhttp

import (
	"context"
	"errors"
	"hash/maphash"
	"net/http"
	"sync"
	"time"

	"github.com/sessile-go/sessile"
)

// A Manager ties cookies to the sessions of one engine. It is safe for concurrent use and holds nothing that
// must be closed; close the engine after the HTTP server.
type Manager struct {
	engine   *sessile.Engine
	opt      Options
	replaced replaced
	seed     maphash.Seed
	logins   [64]loginTurn // with MaxPerUser; by the hash of the user's name
}

// New makes a Manager for the engine, whose sessions it may share with others. The error names the option that is out of range.
func New(engine *sessile.Engine, options Options) (*Manager, error) {
	if engine == nil {
		return nil, errors.New("sessionhttp: New: engine is nil")
	}
	opt := options.withDefaults()
	if err := opt.validate(); err != nil {
		return nil, err
	}
	m := &Manager{engine: engine, opt: opt, seed: maphash.MakeSeed()}
	for i := range m.logins {
		m.logins[i].taken = make(chan struct{}, 1)
	}
	return m, nil
}

// Handler gives the requests of next their sessions. It costs a request that does not use its session two allocations,
// and reads neither cookie nor engine for it.
func (m *Manager) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := r.Context().Value(managerKey{m}).(*Session); ok {
			next.ServeHTTP(w, r) // mounted twice; the outer one writes the cookies
			return
		}
		q := &request{}
		q.session.m, q.session.cookies, q.session.base = m, r.Header["Cookie"], r.Context()
		q.writer.inner, q.writer.session = w, &q.session
		q.ctx.Context, q.ctx.session = r.Context(), &q.session
		defer q.session.returned(w)
		next.ServeHTTP(wrap(&q.writer), r.WithContext(&q.ctx))
	})
}

// A request is what Handler keeps of one, in one allocation.
type request struct {
	session Session
	writer  writer
	ctx     requestContext
}

// requestContext is the request's context with its session.
type requestContext struct {
	context.Context
	session *Session
}

// A sessionKey finds the session of the innermost Handler, a managerKey that of one Manager's.
type (
	sessionKey struct{}
	managerKey struct{ m *Manager }
)

func (c *requestContext) Value(key any) any {
	switch k := key.(type) {
	case sessionKey:
		return c.session
	case managerKey:
		if k.m == c.session.m {
			return c.session
		}
	}
	return c.Context.Value(key)
}

// From returns the session of the request, as [Manager.Handler] has put it there. It is never
// nil: that of a request which did not pass a Handler answers ErrNoHandler.
func From(r *http.Request) *Session { return FromContext(r.Context()) }

// From returns the session that this Manager's Handler has given the request: where the Handlers of
// several Managers stand around each other, each with a cookie of its own. The function [From] returns the innermost one's.
func (m *Manager) From(r *http.Request) *Session {
	if s, ok := r.Context().Value(managerKey{m}).(*Session); ok {
		return s
	}
	return &Session{}
}

// FromContext is From for code that has the request's context, or one derived from it.
func FromContext(ctx context.Context) *Session {
	if s, ok := ctx.Value(sessionKey{}).(*Session); ok {
		return s
	}
	return &Session{}
}

// NewContext returns a context in which FromContext finds the handle: for transports that use [Manager.Open].
func NewContext(ctx context.Context, s *Session) context.Context {
	return &requestContext{ctx, s}
}

// Open returns the session that the values of a request's Cookie headers prove, for transports other than
// net/http. setCookie is called, never twice at once, when a cookie is to be sent, and must not use the handle; with nil none can be, and what would need one
// is ErrHeadersSent, as it is after [Session.Seal]. Clear-Site-Data is the caller's to send. The handle is usable for as long as the connection lives; ctx ends what Done
// holds. The error is the engine's or the context's; a token that proves nothing is the handle's answer to
// each use.
func (m *Manager) Open(ctx context.Context, cookieHeaders []string, setCookie func(*http.Cookie)) (*Session, error) {
	if ctx == nil {
		ctx = context.Background()
	}
	s := &Session{m: m, cookies: cookieHeaders, base: ctx, deliver: setCookie, sealed: setCookie == nil}
	if _, _, _, err := s.proven(ctx); err != nil && !stale(err) {
		return nil, err
	}
	return s, nil
}

// Issue makes a session for the user, with what fn sets, and returns its cookie: for tests and tools. fn may
// be nil. The session is durable, and counts against MaxPerUser as a login does.
func (m *Manager) Issue(ctx context.Context, user string, fn func(sessile.Txn) error) (*http.Cookie, error) {
	var cookie *http.Cookie
	s, err := m.Open(ctx, nil, func(c *http.Cookie) { cookie = c })
	if err != nil {
		return nil, err
	}
	err = s.Login(ctx, user, fn)
	if cookie != nil && (err == nil || errors.Is(err, sessile.ErrDurabilityUnknown)) {
		return cookie, err
	}
	return nil, err
}

// detach returns a context that the request's end does not cancel.
func (m *Manager) detach(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx == nil {
		ctx = context.Background()
	}
	return context.WithTimeout(context.WithoutCancel(ctx), m.opt.Timeout)
}

// replaced remembers for a while the sessions that a login to another user ended, whose tokens have a newer
// one, not none.
type replaced struct {
	mu sync.Mutex
	// Guarded by mu.
	at    map[string]time.Time
	swept time.Time
}

const (
	replacedMemory = time.Minute // as long as the engine remembers an ended session's token
	maxReplaced    = 1 << 16     // beyond it their tokens answer ErrEnded
)

func (p *replaced) add(id string) {
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at == nil {
		p.at = map[string]time.Time{}
	}
	if now.Sub(p.swept) > replacedMemory {
		for id, at := range p.at {
			if now.Sub(at) > replacedMemory {
				delete(p.at, id)
			}
		}
		p.swept = now
	}
	if len(p.at) < maxReplaced {
		p.at[id] = now
	}
}

func (p *replaced) remove(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.at, id)
}

func (p *replaced) has(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	at, ok := p.at[id]
	return ok && time.Since(at) <= replacedMemory
}
