package peers

import (
	"fmt"
	"maps"
	"net/http"
	"sync"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
)

var gorillaKind = Kind{
	Name:          "gorilla, memory store",
	Module:        "github.com/gorilla/sessions",
	InMemory:      true,
	LoadsAndSaves: true,
	Notes: map[Regime]string{
		Memory: "store.New from the request's signed cookie, Values, Save; gorilla has no memory store of its own, " +
			"this one keeps a copied map per id under a RWMutex; nothing expires in it",
	},
	Open: openGorilla,
}

const gorillaName = "session"

// A gorillaStore is a sessions.Store in memory: what a handler holds is a copy, as with every store of gorilla's.
type gorillaStore struct {
	codecs []securecookie.Codec
	mu     sync.RWMutex
	values map[string]map[any]any // by session id
}

// Get implements sessions.Store.
func (s *gorillaStore) Get(r *http.Request, name string) (*sessions.Session, error) {
	return sessions.GetRegistry(r).Get(s, name)
}

// New implements sessions.Store.
func (s *gorillaStore) New(r *http.Request, name string) (*sessions.Session, error) {
	session := sessions.NewSession(s, name)
	session.Options = &sessions.Options{Path: "/"}
	session.IsNew = true
	c, err := r.Cookie(name)
	if err != nil {
		return session, nil
	}
	if err := securecookie.DecodeMulti(name, c.Value, &session.ID, s.codecs...); err != nil {
		return session, err
	}
	s.mu.RLock()
	values, ok := s.values[session.ID]
	s.mu.RUnlock()
	if ok {
		session.Values = maps.Clone(values) // stored maps are never changed
		session.IsNew = false
	}
	return session, nil
}

// Save implements sessions.Store.
func (s *gorillaStore) Save(_ *http.Request, w http.ResponseWriter, session *sessions.Session) error {
	values := maps.Clone(session.Values)
	s.mu.Lock()
	s.values[session.ID] = values
	s.mu.Unlock()
	encoded, err := s.cookie(session.Name(), session.ID)
	if err != nil {
		return err
	}
	http.SetCookie(w, sessions.NewCookie(session.Name(), encoded, session.Options))
	return nil
}

func (s *gorillaStore) cookie(name, id string) (string, error) {
	return securecookie.EncodeMulti(name, id, s.codecs...)
}

// gorillaPeer is a server's use of the store: each call is a request of its own.
type gorillaPeer struct {
	store   *gorillaStore
	values  map[any]any // a new session
	mu      sync.RWMutex
	cookies map[string]string // by id: the browsers
}

func openGorilla(c Config) (Peer, error) {
	csrf, name, profile := fields(c.Size)
	return &gorillaPeer{
		store: &gorillaStore{
			codecs: securecookie.CodecsFromPairs(securecookie.GenerateRandomKey(32)),
			values: map[string]map[any]any{},
		},
		values:  map[any]any{"a": int64(0), "b": int64(0), "csrf": csrf, "name": name, "profile": profile},
		cookies: map[string]string{},
	}, nil
}

func (p *gorillaPeer) Fill(ids []string) error {
	for _, id := range ids {
		if err := p.Create(id); err != nil {
			return err
		}
	}
	return nil
}

func (p *gorillaPeer) request(id string) (*http.Request, *sessions.Session, error) {
	p.mu.RLock()
	cookie := p.cookies[id]
	p.mu.RUnlock()
	r := &http.Request{Header: http.Header{"Cookie": {gorillaName + "=" + cookie}}}
	s, err := p.store.New(r, gorillaName)
	if err == nil && s.IsNew {
		err = errMissing
	}
	return r, s, err
}

func gorillaPair(s *sessions.Session) (Pair, error) {
	a, okA := s.Values["a"].(int64)
	b, okB := s.Values["b"].(int64)
	if !okA || !okB {
		return Pair{}, fmt.Errorf("session %s has no counters", s.ID)
	}
	return Pair{a, b}, nil
}

func (p *gorillaPeer) Read(id string) (Pair, error) {
	_, s, err := p.request(id)
	if err != nil {
		return Pair{}, err
	}
	return gorillaPair(s)
}

func (p *gorillaPeer) Change(id string, _ bool) error {
	r, s, err := p.request(id)
	if err != nil {
		return err
	}
	pair, err := gorillaPair(s)
	if err != nil {
		return err
	}
	s.Values["a"], s.Values["b"] = pair.A+1, pair.B+1
	return s.Save(r, discard{http.Header{}})
}

func (p *gorillaPeer) Create(id string) error {
	p.store.mu.Lock()
	p.store.values[id] = maps.Clone(p.values)
	p.store.mu.Unlock()
	cookie, err := p.store.cookie(gorillaName, id)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.cookies[id] = cookie
	p.mu.Unlock()
	return nil
}

func (p *gorillaPeer) Delete(id string) error {
	p.store.mu.Lock()
	delete(p.store.values, id)
	p.store.mu.Unlock()
	p.mu.Lock()
	delete(p.cookies, id)
	p.mu.Unlock()
	return nil
}

func (p *gorillaPeer) Close() error { return nil }

// discard is a response that costs nothing.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}
