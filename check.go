package sessile

import (
	"bytes"
	"errors"
	"fmt"
)

// check walks the engine and returns what contradicts its invariants. It is for
// the end of tests: no call may be running.
func (e *Engine) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	memory, hot := int64(0), int64(0)
	for i, sh := range e.shards {
		sh.mu.Lock()
		listed := make(map[*session]int)
		for _, s := range sh.changed {
			if s.status() == dead {
				s = sh.find(e.hash(s.id()), s.id()) // it has moved
			}
			listed[s]++
		}
		ring := make(map[*session]bool)
		dirty, holes := int64(0), 0
		for _, s := range sh.ring {
			switch {
			case s == nil:
				holes++
				continue
			case s.status() == dead:
				continue
			case ring[s]:
				bad("%q is in its ring twice", s.id())
			}
			ring[s] = true
		}
		if holes != sh.holes {
			bad("shard %d: %d holes, counted %d", i, holes, sh.holes)
		}
		sh.sessions.Range(func(h uint64, s *session) bool {
			for ; s != nil; s = s.next() {
				w := s.word.Load()
				st, r := statusOf(w), s.priv.Load()
				if s.lk.Load() != lockFree {
					bad("%q is locked", s.id())
				}
				if w>>pinShift != 0 {
					bad("%q is pinned", s.id())
				}
				if st == dead || st == loading {
					bad("%q is in the map with status %d", s.id(), st>>statusShift)
				}
				if h != e.hash(s.id()) || e.shardOf(h) != sh {
					bad("%q is in the wrong place", s.id())
				}
				if (r != nil) != (st == live) {
					bad("%q: status %d, state %v", s.id(), st>>statusShift, r != nil)
				}
				if w&bitPublished != 0 && r == nil {
					bad("%q: published without a state", s.id())
				}
				if (listed[s] > 0) != (w&bitChanged != 0) || listed[s] > 1 {
					bad("%q: %d times in the changed list, mark %v", s.id(), listed[s], w&bitChanged != 0)
				}
				if ring[s] != (w&bitRinged != 0) {
					bad("%q: in the ring %v, mark %v", s.id(), ring[s], w&bitRinged != 0)
				}
				if w&bitRinged != 0 {
					memory += s.footprint()
				}
				if w&(bitChanged|bitPending) != 0 {
					dirty += sessionOverhead + int64(r.size())
				}
				if st == live {
					hot++
					if err := r.verify(); err != nil {
						bad("%q: %v", s.id(), err)
					}
					if r.version > sh.version {
						bad("%q: version %d above the shard's %d", s.id(), r.version, sh.version)
					}
					user, _ := r.user()
					if _, ok := sh.users[user][s]; ok != (user != "") {
						bad("%q: user %q, in the index %v", s.id(), user, ok)
					}
				}
			}
			return true
		})
		for user, m := range sh.users {
			for s := range m {
				if s.status() != live || !s.priv.Load().hasUser(user) {
					bad("%q is indexed under %q", s.id(), user)
				}
			}
		}
		if e.persist != nil && dirty != sh.dirty {
			bad("shard %d: %d bytes dirty, counted %d", i, dirty, sh.dirty)
		}
		sh.mu.Unlock()
	}
	if m := e.memory.Load(); m != memory {
		bad("%d bytes in memory, counted %d", memory, m)
	}
	if n := e.live.sessions.Load(); hot > n || e.persist == nil && hot != n {
		bad("%d live sessions in memory, counted %d in all", hot, n)
	}
	return errors.Join(errs...)
}

// verify checks that a record is what decodeRecord would accept.
func (r *record) verify() error {
	got, _, err := decodeRecord(r.appendDisk(nil, r.created), r.version)
	if err != nil {
		return err
	}
	if !bytes.Equal(got.data(), r.data()) || got.fields != r.fields || got.flags != r.flags {
		return fmt.Errorf("%w: state differs from its encoding", ErrCorrupt)
	}
	return nil
}

// checkDisk reads every record and compares the counts and the user index with
// them, and with the sessions in memory that have changed since. It is for an engine just opened.
func (e *Engine) checkDisk() error {
	p := e.persist
	if p == nil {
		return nil
	}
	var errs []error
	users := make(map[string]bool) // index entries, true if they must be there
	sessions, anonymous := int64(0), int64(0)
	count := func(user string) {
		sessions++
		if user == "" {
			anonymous++
		}
	}
	changed := make(map[string]bool) // or about to be written
	for _, sh := range e.shards {
		sh.mu.Lock()
		sh.sessions.Range(func(_ uint64, s *session) bool {
			for ; s != nil; s = s.next() {
				w := s.word.Load()
				if w&(bitChanged|bitPending) == 0 {
					continue
				}
				changed[s.id()] = true
				user, _ := s.priv.Load().user()
				if s.status() == live {
					count(user)
				}
				if user != "" {
					users[string(p.indexKey(user, s.id()))] = w&bitIndexed != 0
				}
				if x := s.extra.Load(); x != nil {
					for _, u := range x.users {
						users[string(p.indexKey(u, s.id()))] = false
					}
				}
			}
			return true
		})
		sh.mu.Unlock()
	}
	err := p.store.Scan([]byte{'r'}, nil, false, func(k, v []byte) bool {
		r, _, err := p.openRecord(k, v)
		if err != nil {
			errs = append(errs, err)
			return true
		}
		id := string(k[1:])
		if changed[id] {
			return true
		}
		user, _ := r.user()
		count(user)
		if user != "" {
			users[string(p.indexKey(user, id))] = true
		}
		return true
	})
	errs = append(errs, err, p.checkIndex(users))
	if n := e.live.sessions.Load(); n != sessions {
		errs = append(errs, fmt.Errorf("%d sessions, counted %d", sessions, n))
	}
	if n := e.live.anonymous.Load(); n != anonymous {
		errs = append(errs, fmt.Errorf("%d anonymous sessions, counted %d", anonymous, n))
	}
	return errors.Join(errs...)
}

func (p *persister) checkIndex(want map[string]bool) error {
	var errs []error
	err := p.store.Scan([]byte{'u'}, nil, true, func(k, _ []byte) bool {
		if _, ok := want[string(k)]; !ok {
			errs = append(errs, fmt.Errorf("index entry %q without its record", k))
		}
		delete(want, string(k))
		return true
	})
	for k, must := range want {
		if !must {
			continue
		}
		errs = append(errs, fmt.Errorf("record without its index entry %q", k))
	}
	return errors.Join(append(errs, err)...)
}
