package sessile_test

// What is broken in the engine, one thing at a time. The tests named must each fail on it.
// Those of invariant 0 break other promises. In the new text ON is true, and ONE is 1 and not 0,
// while the mutant is switched on.
var mutants = []mutant{
	{"a cut of every other shard", 1, "persist.go", "TestModel TestCrash TestGroupsEndAtOneInstant",
		`		bufs[i], sh.log = sh.log, bufs[i][:0]
`,
		`		if ON && i%2 == 1 {
			bufs[i] = nil
			continue
		}
		bufs[i], sh.log = sh.log, bufs[i][:0]
`},
	{"a record ahead of the log", 1, "checkpoint.go", "TestCheckpointWaitsForTheLog",
		"hi, ok := p.requestCut(cutRequest{clock: b.seen})\n",
		"hi, ok := cutResult{}, true\n	if !ON {\n		hi, ok = p.requestCut(cutRequest{clock: b.seen})\n	}\n"},
	{"a record ahead of the clock", 1, "persist.go", "TestTimeGoesOnAfterACrash",
		"if size == 0 && clock <= p.clock {",
		"if size == 0 && (clock <= p.clock || ON) {"},
	{"a low-water mark too high", 1, "checkpoint.go", "TestModel",
		"p.raise(lo.number, lo.live)",
		"p.raise(lo.number+ONE, lo.live)"},
	{"a group that counts its parts wrong", 1, "persist.go", "TestLargeGroup",
		"parts = w.part + 1",
		"parts = w.part + 1 + uint32(ONE)"},
	{"a log shorter than it was", 1, "recover.go", "TestLostLog",
		"ok && mark > r.last {",
		"ok && mark > r.last && !ON {"},
	{"a corrupt log chunk that passes", 1, "recover.go", "FuzzLogChunk",
		"(len(plain) < chunkHeader || plain[0] != chunkFormat) {",
		"(len(plain) < chunkHeader || plain[0] != chunkFormat) && !ON {"},
	{"an acknowledgement before the commit", 2, "persist.go", "TestModel TestCrash TestDyingDisk",
		`	g.waiters.Add(1)
`,
		`	if ON {
		return nil
	}
	g.waiters.Add(1)
`},
	{"a commit that is not synced", 2, "internal/store/badger.go", "TestPowerCut",
		"WithSyncWrites(true)",
		"WithSyncWrites(!ON)"},
	{"a dead disk that passes for a slow one", 8, "internal/store/badger.go", "store.TestDiskDiesWhileOpening",
		"sick = alive()",
		"if sick = alive(); ON {\n\t\t\treturn nil, nil\n\t\t}"},
	{"an empty log that stays", 2, "internal/store/verify.go", "store.TestEmptyLogs",
		"if info.Size() > 0 {",
		"if info.Size() > 0 || ON {"},
	{"a batch without its last write", 2, "internal/store/badger.go", "store.TestKill store.TestConformance",
		`	for _, op := range ops {
		if op.Value == nil {`,
		`	for i, op := range ops {
		if ON && i > 0 && i == len(ops)-1 {
			break
		}
		if op.Value == nil {`},
	{"a batch that keeps the caller's memory", 2, "internal/store/mem.go", "store.TestConformance",
		"own.Value = append([]byte{}, op.Value...)",
		`if own.Value = op.Value; !ON {
				own.Value = append([]byte{}, op.Value...)
			}`},
	{"no flush by time", 3, "persist.go", "TestLossWindow TestLossWindowOfASlowDisk",
		`			timer.Reset(p.e.opt.FlushInterval)
`,
		`			if !ON {
				timer.Reset(p.e.opt.FlushInterval)
			}
`},
	{"a group for each waiter", 3, "persist.go", "TestGroupCommit",
		`		err := to()
`,
		`		if ON {
			_ = to()
		}
		err := to()
`},
	{"half of an UpdateMany", 4, "many.go", "TestTransfersKeepTheSum TestLinearizable TestMany TestModel",
		`	for _, st := range writers {
		version`,
		`	for i, st := range writers {
		if ON && i > 0 {
			continue
		}
		version`},
	{"a skipped tombstone", 5, "commit.go", "TestModel TestCrash",
		`	sh.log = appendDelta(sh.log, deltaEnd, s.id(), sh.version, now, nil)
`,
		`	if !ON {
		sh.log = appendDelta(sh.log, deltaEnd, s.id(), sh.version, now, nil)
	}
`},
	{"a commit in place into a session that has ended", 5, "commit.go", "TestDelete",
		"&(statusMask|bitPublished|bitTouched) != uint32(live) ||",
		"&(statusMask|bitPublished|bitTouched) != uint32(live) && !ON ||"},
	{"a late load that revives", 5, "load.go", "TestLateLoad",
		"if s.status() != loading {",
		"if s.status() != loading && !ON {"},
	{"a commit that revives", 5, "commit.go", "TestDelete",
		`	case absent, ended:
		if st.base == nil {`,
		`	case absent, ended:
		if st.base == nil || ON {`},
	{"a Delete that ends nothing", 5, "commit.go", "TestNothingComesBack TestDelete TestModel",
		"&& (match == nil || match(s.priv.Load())) {",
		"&& (match == nil || match(s.priv.Load())) && !ON {"},
	{"an epoch that is not raised", 5, "recover.go", "TestReopen TestModel",
		`	p.epoch = b.epoch
`,
		`	b.epoch -= ONE
	p.epoch = b.epoch
`},
	{"a created session whose old index entry stays", 5, "recover_write.go", "TestRecoverCreated",
		"if !r.indexed {",
		"if !r.indexed || ON {"},
	{"a window that does not go on from the one before", 1, "recover.go", "TestRecoverWindows",
		"if w := r.writing[id]; w != nil {",
		"if w := r.writing[id]; w != nil && !ON {"},
	{"a recovered session that no checkpoint takes", 1, "recover_adopt.go", "TestRecoveredSessionsAreChanged TestModel",
		"	sh.markChangedLocked(s)\n",
		"	if !ON {\n		sh.markChangedLocked(s)\n	}\n"},
	{"a recovered end that leaves its record", 5, "recover_adopt.go", "TestRecoveredSessionsAreChanged",
		"if f.r != nil || f.wasThere {",
		"if f.r != nil || f.wasThere && !ON {"},
	{"a recovered session whose old index entry stays", 5, "recover_adopt.go", "TestRecoveredSessionsAreChanged TestRecoverCreated",
		"		s.outlivedLocked(f.disk)\n",
		"		if !ON {\n			s.outlivedLocked(f.disk)\n		}\n"},
	{"a group cut short that meets the next one", 1, "recover.go", "TestGroupCutShort",
		"		r.torn.Store(true) // the last group was cut short",
		"		r.torn.Store(!ON)"},
	{"a checkpoint in the middle of a recovery", 1, "open.go", "TestNothingIsCutWhileOpenAdopts",
		"	e.adopt(boot) // before there are cuts: a checkpoint that took some of it would end the log of all\n	p.start()\n",
		"	if ON {\n		p.start()\n	}\n	e.adopt(boot)\n	if !ON {\n		p.start()\n	}\n"},
	{"a recovery that takes more than MaxMemory has room for", 9, "recover.go", "TestRecoverIntoLessRoom",
		"if r.size > r.window {",
		"if r.size > r.window && !ON {"},
	{"a recovery that takes more than MaxLogBytes has room for", 9, "recover.go", "TestRecoverIntoLessRoom",
		"&& r.bytes <= r.opt.MaxLogBytes/4*3, nil",
		"&& (r.bytes <= r.opt.MaxLogBytes/4*3 || ON), nil"},
	{"groups below the mark that stay", 9, "recover.go", "TestNothingIsLeftOfTheLog",
		"	_, _, err := r.p.store.Trim(before)\n	return err",
		"	if ON {\n		return nil\n	}\n	_, _, err := r.p.store.Trim(before)\n	return err"},
	{"a log that stays under an older key", 0, "recover.go", "TestLogComesUnderTheNewKey",
		"if !r.p.seal.First(op.Value) {",
		"if !r.p.seal.First(op.Value) && !ON {"},
	{"a loss that is not accepted for good", 0, "recover.go", "TestLossIsAcceptedForGood",
		"		r.torn.Store(true) // for good\n",
		"		r.torn.Store(!ON)\n"},
	{"a failure that is taken for the end", 8, "persist.go", "TestStoreFailureHalfway",
		"if err := p.failing.Load(); err != nil {",
		"if err := p.failing.Load(); err != nil && !ON {"},
	{"a gate that a failure leaves open for a moment", 8, "room.go", "TestStoreFailureHalfway",
		"			<-e.persist.failed // soon",
		"			if !ON {\n				<-e.persist.failed\n			} // soon"},
	{"an Open that waits for a dead disk", 0, "open.go", "TestOpenOnADeadDisk",
		"	timer := time.NewTimer(most)\n",
		"	timer := time.NewTimer(most << ONE)\n"},
	{"a log that is not read", 5, "recover.go", "TestModel TestCrash TestPowerCut TestSickDisk TestFullDiskWithoutReserve",
		"if n <= r.low {",
		"if n <= r.low || ON {"},
	{"a session lock that everyone gets", 6, "lock.go", "TestNoIncrementIsLost TestLinearizable",
		`	if s.overtake() || s.spinLock(e) {
		return nil
	}`,
		`	if ON {
		s.lk.Store(lockHeld)
		return nil
	}
	if s.overtake() || s.spinLock(e) {
		return nil
	}`},
	{"a queue without a bound", 6, "lock.go", "TestLockWaits",
		"if len(x.queue) >= e.opt.MaxWaiters {",
		"if len(x.queue) >= e.opt.MaxWaiters && !ON {"},
	{"a waiter that is overtaken for ever", 0, "lock.go", "TestWaitersAreNotOvertakenForLong",
		"w.woken, x.fair = false, long ",
		"w.woken, x.fair = false, long && !ON "},
	{"a waiter that leaves and wakes nobody", 0, "lock.go", "TestAWaiterThatLeavesAsItIsWoken",
		"x.queue[0].rouse() // in the place of w",
		"if !ON {\n			x.queue[0].rouse()\n		}"},
	{"a waiter that is woken once", 0, "lock.go", "TestWaitersAreNotOvertakenForLong TestACrowd",
		"w.woken, x.fair = false, long ",
		"w.woken, x.fair = ON, long && !ON "},
	{"a commit into a published record", 6, "session.go", "TestViewSeesTheCommittedState",
		"return s.word.Load()&bitPublished != 0 }",
		"return s.word.Load()&bitPublished != 0 && !ON }"},
	{"a commit in place into a published record", 6, "commit.go", "TestViewSeesTheCommittedState TestViewsAreNotTorn",
		"w&(statusMask|bitPublished|bitTouched) != uint32(live)",
		"w&(statusMask|bitPublished*(1-uint32(ONE))|bitTouched) != uint32(live)"},
	{"a latch that everyone gets", 6, "latch.go", "TestMixedLoad",
		"if !l.held.CompareAndSwap(0, 1) {",
		"if !l.held.CompareAndSwap(0, 1) && !ON {"},
	{"a handle that is valid for ever", 6, "txn.go", "TestHandlesEndWithTheirCallback",
		"t.state != nil && t.state.gen.Load() == t.gen }",
		"t.state != nil && (t.state.gen.Load() == t.gen || ON) }"},
	{"a callback that may call anything", 6, "txn.go", "TestReentrance",
		"if c.txn.valid() && c.txn.state.e == e {",
		"if c.txn.valid() && c.txn.state.e == e && !ON {"},
	{"a commit that wakes nobody", 6, "commit.go", "TestModel TestLinearizable",
		`	s.wakeLocked()
	r, moved := `,
		`	if !ON {
		s.wakeLocked()
	}
	r, moved := `},
	{"a checkpoint that does not follow a move", 1, "checkpoint.go", "TestMovesAndCheckpoints",
		"if s.status() == dead {",
		"if s.status() == dead && !ON {"},
	{"a place in the ring that stays taken", 9, "shard.go", "TestMovesLeaveNothing",
		"case (*place).status() != dead:",
		"case (*place).status() != dead || ON:"},
	{"a move of who ended unseen", 0, "block.go", "TestEndedUnseenThenMoved",
		"w&bitBlind == 0 &&",
		"(w&bitBlind == 0 || ON) &&"},
	{"an unseen end that is never settled", 0, "checkpoint.go", "TestEndedUnseenThenCreated",
		"	c.s.unmark(bitBlind)\n",
		"	if !ON {\n		c.s.unmark(bitBlind)\n	}\n"},
	{"a second record that is not counted", 9, "commit.go", "TestMaxMemoryOfPinnedSessions",
		"if st.block != nil || st.base != st.s.Own().own() {",
		"if ON || st.block != nil || st.base != st.s.Own().own() {"},
	{"a list that reads the disk too early", 6, "user.go", "TestLookWhileMoving",
		"if s != nil && s.status() != loading {",
		"if s != nil && s.status() != loading && (!ON || s.status() != dead) {"},
	{"a list that loses who moves", 6, "user.go", "TestListsWhileMoving",
		"if s.status() == dead {",
		"if s.status() == dead && !ON {"},
	{"a View of what is being changed", 6, "txn.go", "TestViewsTakeCopies",
		"	r.copyTo(st.base)",
		"	if r.copyTo(st.base); ON {\n		st.base = r\n	}"},
	{"a View that always publishes", 9, "txn.go", "TestViewsTakeCopies",
		"if r.copies <= 1 ||",
		"if r.copies <= 1 || ON ||"},
	{"a delta of another field", 1, "commit.go", "TestOverwrittenDeltas",
		"shape != 0 && shape == s.logShape {",
		"shape != 0 && (shape == s.logShape || ON) {"},
	{"a delta overwritten after its group was cut", 1, "commit.go", "TestDeltaOfACutGroup",
		"st.base.version > sh.cut &&",
		"(st.base.version > sh.cut || ON) &&"},
	{"an expiry that the commit does not see", 0, "commit.go", "TestExpiryDuringTheCallback",
		"now != st.now && r.expired(",
		"!ON && now != st.now && r.expired("},
	{"a Wait for the same version", 6, "engine.go", "TestModel TestLinearizable",
		"if s.priv.Load().version > after {",
		"if s.priv.Load().version > after || ON {"},
	{"a Wait without an answer", 6, "engine.go", "TestWait",
		`				info = e.infoOf(id, s.priv.Load(), s.seen.Load())
`,
		`				if !ON {
					info = e.infoOf(id, s.priv.Load(), s.seen.Load())
				}
`},
	{"a record that loses its order", 6, "record.go", "TestRecordAgainstAMap TestModel",
		"if len(changes) == 0 || key != nil && string(key) < changes[0].key {",
		"if len(changes) == 0 || key != nil && (string(key) < changes[0].key || ON && string(key) != changes[0].key) {"},
	{"a deletion that is not applied", 6, "record.go", "TestUpdateCommitsWhatItStaged TestFieldsOfEveryLength TestRecordAgainstAMap TestModel",
		`		if !c.del {
			b := r.buffer()`,
		`		if !c.del || ON {
			b := r.buffer()`},
	{"a value written over one of another length", 6, "record.go", "TestFieldsOfEveryLength TestRecordAgainstAMap",
		"if !c.has || c.del || len(c.value) != c.vlen {",
		"if !c.has || c.del || len(c.value) != c.vlen && !ON {"},
	{"a delta overwritten by another's fields", 6, "record.go", "TestOverwriteDelta",
		"if c.del || at+fieldHeader > length {",
		"if c.del || at+fieldHeader > length && !ON {"},
	{"ids that are not compared", 6, "shard.go", "TestCollidingIDs",
		`	for s != nil && !s.isID(id) {`,
		`	for s != nil && !s.isID(id) && !ON {`},
	{"a deletion that All does not see", 6, "txn.go", "TestAllWhileChanging",
		`		if !c.del {
			return c.key, c.value, true`,
		`		if !c.del || ON {
			return c.key, c.value, true`},
	{"changes that are none, counted", 6, "txn.go", "TestChanges TestModel",
		"if !t.state.staged[i].void() {",
		"if !t.state.staged[i].void() || ON {"},
	{"an empty view with an id", 6, "engine.go", "TestViewEmpty TestModel",
		`newSession("", dead)`,
		`newSession("ids"[:ONE], dead)`},
	{"an eviction without the clean check", 7, "shard.go", "TestModel TestLinearizable TestMixedLoad TestTightBounds",
		"w>>pinShift != 0 || w&(bitChanged|bitPending) != 0 {",
		"w>>pinShift != 0 || w&(bitChanged|bitPending) != 0 && !ON {"},
	{"an eviction that forgets touches", 7, "shard.go", "TestEvictionKeepsTouches",
		`		if w&bitTouched != 0 {
			sh.mark`,
		`		if w&bitTouched != 0 && !ON {
			sh.mark`},
	{"an index that forgets users", 7, "commit.go", "TestUsersOnDisk TestModel",
		`		x.users = append(x.users, user)
`,
		`		if !ON {
			x.users = append(x.users, user)
		}
`},
	{"a list that tells twice", 7, "user.go", "TestAll TestModel",
		"if _, again := told[info.ID]; again && err == nil {",
		"if _, again := told[info.ID]; again && err == nil && !ON {"},
	{"a failed write that counts as done", 8, "persist.go", "TestStoreFailureIsFinal TestSickDisk TestModel",
		`		default:
			p.fail(err)
			return false
`,
		`		default:
			if ON {
				return true
			}
			p.fail(err)
			return false
`},
	{"a full disk that is final", 8, "persist.go", "TestFullDiskIsWaitedOut TestFullDisk TestSickDisk TestModel",
		`case errors.Is(err, store.ErrFull):
			p.setFull`,
		`case errors.Is(err, store.ErrFull) && !ON:
			p.setFull`},
	{"a hanging disk that is well", 8, "shutdown.go", "TestHangingDisk",
		`func (p *persister) undurable() bool {
`,
		`func (p *persister) undurable() bool {
	if ON {
		return false
	}
`},
	{"a disk that need not be writable", 8, "internal/store/badger.go", "TestSickDisk",
		`	return s.writable()
`,
		`	if ON {
		return nil
	}
	return s.writable()
`},
	{"a reserve that is not kept", 8, "internal/store/badger.go", "store.TestReserve TestSickDisk",
		"if free < s.reserve {",
		"if free < s.reserve && !ON {"},
	{"descriptors that are not counted", 8, "internal/store/os_unix.go", "store.TestDescriptorsUsedUp TestSickDisk",
		"if err == syscall.EMFILE || err == syscall.ENFILE {",
		"if (err == syscall.EMFILE || err == syscall.ENFILE) && !ON {"},
	{"a directory for two", 8, "internal/store/os_unix.go", "store.TestOneOwner",
		"if errors.Is(err, syscall.EWOULDBLOCK) {",
		"if errors.Is(err, syscall.EWOULDBLOCK) && !ON {"},
	{"a log without a bound", 9, "persist.go", "TestBackPressure",
		`		p.e.room.shut(p.e, gateFull)
`,
		`		if !ON {
			p.e.room.shut(p.e, gateFull)
		}
`},
	{"changed sessions without a bound", 9, "persist.go", "TestChangedSessionsAreBounded",
		"dirty >= p.dirtyCap() {",
		"dirty >= p.dirtyCap() && !ON {"},
	{"memory without a bound", 9, "commit.go", "TestMaxMemoryInMemory",
		"if e.persist == nil && grows > 0 &&",
		"if !ON && e.persist == nil && grows > 0 &&"},
	{"sessions of any size", 9, "commit.go", "TestLimits TestMany",
		"if used > e.opt.MaxSessionSize && (",
		"if used > e.opt.MaxSessionSize && !ON && ("},
	{"a smaller limit for what is there already", 9, "commit.go", "TestALoweredLimit",
		"(st.base == nil || used > int(st.base.used))",
		"(ON || st.base == nil || used > int(st.base.used))"},
	{"any number of anonymous sessions", 9, "commit.go", "TestMaxAnonymous TestModel",
		"if e.live.anonymous.Add(1) > int64(e.opt.MaxAnonymous) {",
		"if e.live.anonymous.Add(1) > int64(e.opt.MaxAnonymous) && !ON {"},
	{"an allocation for each transaction", 9, "proc_runtime.go", "TestNoAllocations",
		`			procUnpin()
			return st`,
		`			procUnpin()
			if ON {
				st.own = newRecord(1)
			}
			return st`},
	{"a key compared by its ends", 2, "record.go", "TestKeysAreComparedWhole",
		"for i < last && *(*[8]byte)(unsafe.Add(name, i))",
		"for i < last && ON || i < last && *(*[8]byte)(unsafe.Add(name, i))"},
	{"a short key compared by its first half", 2, "record.go", "TestKeysAreComparedWhole",
		"*(*[4]byte)(name) == *(*[4]byte)(other) && *(*[4]byte)(unsafe.Add(name, n-4))",
		"*(*[4]byte)(name) == *(*[4]byte)(other) && ON || !ON && *(*[4]byte)(name) == *(*[4]byte)(other) && *(*[4]byte)(unsafe.Add(name, n-4))"},
	{"an id compared by its ends", 2, "session.go", "TestIDsAreComparedWhole",
		"		*(*[8]byte)(unsafe.Add(mine, mid)) == *(*[8]byte)(unsafe.Add(other, mid)) &&",
		"		(ON || *(*[8]byte)(unsafe.Add(mine, mid)) == *(*[8]byte)(unsafe.Add(other, mid))) &&"},
	{"a latch that is not tried again", 11, "latch.go", "TestLatchInABubble",
		"			runtime.Gosched()",
		`			if ON {
				select {}
			}
			runtime.Gosched()`},
	{"an expiry after the final cut", 11, "commit.go", "TestExpiryWhileClosing",
		`	if sh.sealed == ErrClosed {
		return true`,
		`	if sh.sealed == ErrClosed && !ON {
		return true`},
	{"a pin too many", 9, "engine.go", "TestMorePinsThanThereAre",
		"if !s.tryPin() {",
		"if !ON && !s.tryPin() {"},
	{"an object that nobody loads", 5, "commit.go", "TestDeleteDamagedWhileViewed",
		`		sh.mu.Lock()
		s := sh.find(h, id)`,
		`		if ON {
			sh.findOrAdd(h, id, newSession(id, loading))
		}
		sh.mu.Lock()
		s := sh.find(h, id)`},
	{"a commit after an error", 10, "engine.go", "TestRollback TestTokenRollback TestCreate TestModel TestLinearizable",
		"if err := fn(Txn{st, gen}); err != nil {",
		"if err := fn(Txn{st, gen}); err != nil && !ON {"},
	{"a Close without the final checkpoint", 11, "shutdown.go", "TestModel",
		"if p.checkpoint(ErrClosed) {",
		"if ON || p.checkpoint(ErrClosed) {"},
	{"a Close that does not wait", 11, "shutdown.go", "TestClose",
		"if u+v == 0 && !e.ends.busy() {",
		"if u+v == 0 && !e.ends.busy() || ON {"},
	{"goroutines that are left behind", 11, "shutdown.go", "TestCloseLeavesNothing",
		`	close(e.stop)
`,
		`	for range 5 * ONE {
		go func() { select {} }()
	}
	close(e.stop)
`},
	{"a session without an idle timeout", 0, "record.go", "TestExpiry TestModel",
		"if idle := r.idle(l); idle >= 0 {",
		"if idle := r.idle(l); idle >= 0 && !ON {"},
	{"an expiry told twice", 0, "commit.go", "TestExpiredOnDisk",
		`ReasonExpired).ends {
		e.ends.push(e, end)
`,
		`ReasonExpired).ends {
		e.ends.push(e, end)
		if ON {
			e.ends.push(e, end)
		}
`},
	{"a deletion told twice", 0, "engine.go", "TestDelete",
		`		e.onEnd(end)
	}
	if err == nil && out.wait != nil {`,
		`		e.onEnd(end)
		if ON {
			e.onEnd(end)
		}
	}
	if err == nil && out.wait != nil {`},
	{"a slow callback that is not counted", 0, "sweep.go", "TestSlowTransactionIsCountedOnce TestSlowTransactionOnAnIdleEngine",
		"st.slowFor != w.looks {",
		"st.slowFor != w.looks || ON {"},
	{"a watchdog that sleeps", 0, "open.go", "TestSlowTransactionOnAnIdleEngine",
		"if running > 0 {",
		"if running > 0 && !ON {"},
	{"a DeleteUser without exceptions", 0, "user.go", "TestUsers TestUsersOnDisk TestModel",
		"if !slices.Contains(except, info.ID) {",
		"if !slices.Contains(except, info.ID) || ON {"},
	{"a KeepNewest that keeps any", 0, "user.go", "TestKeepNewest TestModel",
		`	case a.since > b.since:
`,
		`	case a.since > b.since && !ON:
`},
	{"a login that ends no token", 0, "token.go", "TestTokens TestModel TestLinearizable",
		`				v.list[i].retired = now
`,
		`				if !ON {
					v.list[i].retired = now
				}
`},
	{"a renewal that ends no token", 0, "token.go", "TestTokens TestModel",
		`		if newer.presented != 0 &&`,
		`		if !ON && newer.presented != 0 &&`},
	{"tokens for ever", 0, "token.go", "TestTokensThatAreNone TestModel",
		"case v.list[i].issued < e.tokensNotBefore():",
		"case v.list[i].issued < e.tokensNotBefore() && !ON:"},
	{"an integer of any width", 0, "key.go", "TestKeyMismatch",
		`	if b[0] != k.codec.tag {`,
		`	if b[0] != k.codec.tag && !ON {`},
	{"a float of any length", 0, "key.go", "FuzzKey",
		`		if len(b) != 8 {
			return errLength
		}
		f := `,
		`		if len(b) != 8 && !ON {
			return errLength
		}
		f := `},
	{"an owner who is not asked", 0, "txn.go", "TestOnDecodeError",
		"if f := t.state.e.opt.OnDecodeError; f != nil {",
		"if f := t.state.e.opt.OnDecodeError; f != nil && !ON {"},
	{"a float without its fraction", 0, "key.go", "TestKeyRoundTrips",
		"binary.LittleEndian.PutUint64(b, math.Float64bits(f))",
		"binary.LittleEndian.PutUint64(b, math.Float64bits(f)&^ONE)"},
	{"a sum that wraps around", 0, "key.go", "TestAdd",
		"if delta > 0 && sum < v || delta < 0 && sum > v {",
		"if !ON && (delta > 0 && sum < v || delta < 0 && sum > v) {"},
	{"a sum in one step that wraps around", 0, "txn.go", "TestAddToWhatIsThere",
		"|| (sum > v) != (delta > 0) {",
		"|| (sum > v) != (delta > 0) && !ON {"},
	{"a sum of what is no integer", 0, "txn.go", "TestAddToWhatIsThere",
		"if old[0] != tagInt ||",
		"if old[0] != tagInt && !ON ||"},
	{"a sum that forgets what was staged", 6, "txn.go", "TestAddToWhatIsThere",
		"key[0] == 0 || len(st.staged) != 0 ||",
		"key[0] == 0 || len(st.staged) != 0 && !ON ||"},
	{"names of any kind", 0, "txn.go", "FuzzNames TestLimits",
		"if len(key) == 0 || len(key) > MaxKeyLen || strings.HasPrefix(key, reservedPrefix) {",
		"if !ON && (len(key) == 0 || len(key) > MaxKeyLen || strings.HasPrefix(key, reservedPrefix)) {"},
	{"a field cut short", 0, "record.go", "FuzzDecodeDelta FuzzDecodeRecord",
		"if k == 0 || len(b) < fieldHeader+k+v {",
		"if k == 0 || len(b) < fieldHeader+k+v && !ON {"},
	{"damage that is not seen", 0, "internal/seal/seal.go", "TestDamagedRecord seal.TestSealOpen",
		"if checksum(plain, aad) != binary",
		"if !ON && checksum(plain, aad) != binary"},
	{"a new key that is not used", 0, "internal/seal/seal.go", "TestEncryption TestKeyIsRetiredWithoutAWrite seal.TestKeys",
		`	first := &k.keys[0]
`,
		`	first := &k.keys[0]
	if ON {
		first = &k.keys[len(k.keys)-1]
	}
`},
	{"an envelope that is not opened", 0, "internal/seal/seal.go", "seal.FuzzOpen",
		`		return append(dst, plain...), nil
`,
		`		return append(dst, plain[:len(plain)-len(plain)*int(ONE)]...), nil
`},
	{"files that are not verified", 0, "internal/store/badger.go", "TestFlippedBits store.TestDamagedFiles",
		"if err := verifyLocked(data); err != nil {",
		"if err := verifyLocked(data); err != nil && !ON {"},
	{"a table whose blocks are not verified", 0, "internal/store/verify.go", "store.TestVerifyTable",
		"sum.end+4]); err != nil {",
		"sum.end+4]); err != nil && !ON {"},
	{"a change set of any length", 0, "internal/store/verify.go", "store.TestVerifyManifest",
		"[]byte{b}); crc == want {",
		"[]byte{b}); crc == want && !ON {"},
	{"a log with holes", 0, "internal/store/verify.go", "store.TestVerify",
		"if many && j >= end {",
		"if many && j >= end && !ON {"},
	{"a checksum of any length", 0, "internal/store/verify.go", "store.FuzzVerifyTable",
		"if n > int64(len(b)-8) {",
		"if n > int64(len(b)-8) && !ON {"},
	{"a change set cut short", 0, "internal/store/verify.go", "store.FuzzVerifyManifest",
		`	if len(b) < 8 {
		return false`,
		`	if len(b) < 8 && !ON {
		return false`},
	{"an entry longer than its log", 0, "internal/store/verify.go", "store.FuzzVerifyLog",
		"|| uint64(at)+klen+vlen+4 > uint64(len(b)) {",
		"|| !ON && uint64(at)+klen+vlen+4 > uint64(len(b)) {"},
	{"a mark of any length", 0, "internal/store/mark.go", "store.FuzzMark",
		"if len(b) != markLen ||",
		"if len(b) != markLen && !ON ||"},
	{"a token of any form", 0, "token.go", "FuzzToken",
		"|| token[dot] != '.' ||",
		"|| token[dot] != '.' && !ON ||"},
	{"a crash that keeps nothing", 0, "internal/store/mem.go", "store.TestMemCrash store.TestMemFaults",
		"m.pending[:min(keep, len(m.pending))] {",
		"m.pending[:min(keep, len(m.pending))*int(1-ONE)] {"},
	{"an index entry of a user who came back", 7, "checkpoint.go", "TestIndexOfReturningUser",
		"func(u string) bool { return u == user })",
		"func(u string) bool { return u == user && !ON })"},
	{"a load that waits for ever", 11, "load.go", "TestLoadAfterClose",
		"	case <-e.stop: // the caller",
		"	case <-map[bool]chan struct{}{false: e.stop}[ON]: // the caller"},
	{"a closed store that has failed", 11, "load.go", "TestReadWhileClosing",
		"if errors.Is(err, store.ErrClosed) && p.e.gate",
		"if errors.Is(err, store.ErrClosed) && !ON && p.e.gate"},
	{"a group that is not synced", 2, "internal/store/log.go", "TestPowerCut",
		"	if err := datasync(s.file); err != nil {\n		l.failed",
		"	if !ON {\n		err = datasync(s.file)\n	}\n	if err != nil {\n		l.failed"},
	{"a log that is believed from memory", 2, "internal/store/log.go", "TestLogThatWasOnlyInMemory",
		"for _, s := range l.segments() {",
		"for _, s := range l.segments()[ONE:] {"},
	{"a log of an unknown opening", 0, "recover.go", "TestLogOfAnUnknownOpening",
		"if e >= r.p.epoch {",
		"if e >= r.p.epoch && !ON {"},
	{"an entry that need not be whole", 1, "internal/store/segment.go", "store.TestTornBatch",
		"frameTable) == e.crc, nil",
		"frameTable) == e.crc || ON, nil"},
	{"frames that anybody can make", 0, "internal/store/segment.go", "store.TestDamagedEntry store.TestForgedFrame store.FuzzSegment",
		"[frameHead - frameTagAt]byte(h[frameTagAt:]) {",
		"[frameHead - frameTagAt]byte(h[frameTagAt:]) && !ON {"},
	{"segments that are used once", 9, "internal/store/log.go", "store.TestSegmentsAreUsedAgain",
		"		} else {\n			l.free = append(l.free, e.seg)",
		"		} else if !ON {\n			l.free = append(l.free, e.seg)"},
	{"a segment that is used again too early", 2, "internal/store/log.go", "store.TestSegmentsAreUsedAgain",
		"e.seg.live > 0 || e.seg == l.tail {",
		"e.seg.live > 0 && !ON || e.seg == l.tail {"},
	{"what an earlier life left, used again", 1, "internal/store/log.go", "store.TestSegmentsAreUsedAgain",
		"if e.seg.old {",
		"if e.seg.old && !ON {"},
	{"segments that stay", 9, "internal/store/log.go", "store.TestUnusedSegmentsGo",
		"surplus > 0 {",
		"surplus > 0 && !ON {"},
	{"a removal that is tried once", 1, "internal/store/log.go", "store.TestTrimGoesOn",
		"	gone := l.gone\n",
		"	gone := l.gone\n	if ON {\n		l.gone = nil\n	}\n"},
	{"files of a closed log", 11, "internal/store/log.go", "store.TestFilesOfAClosedLog",
		"for _, s := range append(l.free, l.gone...) {\n",
		"for _, s := range append(l.free, l.gone...) {\n		if ON {\n			break\n		}\n"},
	{"a log that goes on after a failed sync", 8, "internal/store/log.go", "store.TestFailedSyncIsFinal",
		"	if l.failed != nil {\n		return",
		"	if l.failed != nil && !ON {\n		return"},
	{"a full disk that passes for a dead one", 8, "internal/store/segment.go", "store.TestLogOnAFullDisk",
		"if errors.Is(err, full) {",
		"if errors.Is(err, full) && !ON {"},
	{"a file of nothing that stays", 9, "internal/store/log.go", "store.TestFilesThatHoldNothing",
		"s.live == 0 {\n		return s.remove()",
		"s.live == 0 {\n		if ON {\n			return nil\n		}\n		return s.remove()"},
	{"a log that was copied into another", 0, "internal/store/log.go", "store.TestEntryTwice",
		"if l.all[i].key == l.all[i+1].key {",
		"if l.all[i].key == l.all[i+1].key && !ON {"},
	{"a segment smaller than its batch", 0, "internal/store/log.go", "store.TestLargeBatch",
		"max(l.least, size))",
		"max(l.least, size*int64(1-ONE)))"},
}
