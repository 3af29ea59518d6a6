package sessile

// adopt takes the sessions that recovery has folded, as changed since the last checkpoint: the next one writes
// their records, and ends the log that they come from.
func (e *Engine) adopt(boot bootState) {
	for _, f := range boot.changed {
		if f.r != nil || f.wasThere {
			e.adoptOne(f)
		}
		f.r = nil // its memory may go
	}
	e.persist.logBytes.Add(boot.log)
	hot := 0
	for _, sh := range e.shards {
		sh.mu.Lock()
		hot += len(sh.ring)
		e.persist.dirtied(sh.dirty - sh.dirtyKnown)
		sh.dirtyKnown = sh.dirty
		sh.mu.Unlock()
	}
	e.fitFront(hot)
}

// adoptOne makes a folded session the engine's; one that has ended so that its record, which is still there, is deleted.
func (e *Engine) adoptOne(f *folded) {
	var s *session
	if f.r == nil {
		s = newSession(f.id, ended)
	} else {
		var r *record
		s, r = newBlock(int(f.r.used))
		f.r.copyTo(r)
		r.setSaved(f.seen)
		s.setID(f.id)
		s.setStatus(live)
		s.priv.Store(r)
		s.seen.Store(f.seen)
	}
	user, _ := f.r.user()
	switch {
	case f.disk != "" && f.disk != user:
		s.outlivedLocked(f.disk)
	case f.r != nil && f.disk == user:
		s.mark(bitIndexed)
	}
	h := e.hash(f.id)
	sh := e.shardOf(h)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.findOrAdd(h, f.id, s)
	sh.addUserLocked(user, s)
	sh.markChangedLocked(s)
	if f.r != nil {
		sh.adoptLocked(s)
		e.memory.Add(s.footprint())
	}
}
