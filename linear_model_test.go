package sessile_test

import (
	"fmt"
	"math"
	"time"

	"github.com/anishathalye/porcupine"
)

// What a linearSet of sessions does when its operations come one at a time. This is the
// specification that the engine is held to; see linear_test.go.

// A linearSession is one session of the specification.
type linearSession struct {
	alive    bool
	value    int64
	user     string
	deadline int64 // wall clock, ns; 0: none. From then on it may be found to have ended
	token    string
	epoch    uint64

	// The version is not told to who makes it, but to who comes next. Until then
	// it is only known to be above least.
	version uint64 // 0: not seen yet
	least   uint64
}

type linearState [linearInSet]linearSession

// A linearSeen is what an operation saw of a session.
type linearSeen struct {
	there   bool
	value   int64
	user    string
	epoch   uint64
	version uint64
}

// expirySlack is by how much the engine, which counts in whole milliseconds, may end a session early.
const expirySlack = int64(2 * time.Millisecond)

// ended is the session after its end. Versions do not repeat across it.
func (s linearSession) ended() linearSession { return linearSession{least: max(s.least, s.version)} }

// expired is the session at a time at which it may have expired; whether it has, the
// caller knows from what was seen.
func (s linearSession) expired(at int64) (linearSession, bool) {
	if s.alive && (s.deadline == 0 || s.deadline > at+expirySlack) {
		return s, false
	}
	return s.ended(), true
}

// meet compares the session with what was seen of it, whole or (from lists) without value.
func (s linearSession) meet(seen linearSeen, whole bool, at int64) (linearSession, bool) {
	if !seen.there {
		return s.expired(at)
	}
	if !s.alive || s.user != seen.user || whole && (s.value != seen.value || s.epoch != seen.epoch) {
		return s, false
	}
	if s.version == 0 && seen.version > s.least {
		s.version = seen.version
	}
	return s, s.version == seen.version
}

// A linearChange is what a callback does.
type linearChange struct {
	add      int64
	user     string // "": leave it, "-": none
	deadline string // "": leave it, "past", "soon", "none"
	login    bool
	end      string // "": commit; "error", "panic", "destroy"
	durable  bool
}

// linearDid is what of a change only the engine, or the clock, decides.
type linearDid struct {
	deadline int64
	token    string
}

// after returns the session after a change, made if it is not there.
func (s linearSession) after(c linearChange, did linearDid) linearSession {
	switch c.end {
	case "error", "panic":
		return s
	case "destroy":
		return s.ended()
	}
	if !s.alive {
		s = s.ended()
		s.alive = true
	}
	s.value += c.add
	switch c.user {
	case "":
	case "-":
		s.user = ""
	default:
		s.user = c.user
	}
	switch c.deadline {
	case "past":
		return s.ended()
	case "soon", "none":
		s.deadline = did.deadline
	}
	if c.login {
		s.token = did.token
		s.epoch++
	}
	s.least, s.version = max(s.least, s.version), 0
	return s
}

// step does one operation, and reports whether it can have had that output.
func (state linearState) step(in linearInput, out linearOutput) (bool, linearState) {
	s := &state[in.at[0]]
	ok := out.err == "" || out.err == "not found" || out.err == "exists"
	if !ok {
		return false, state // no operation may answer that
	}
	switch in.verb {
	case "update", "upsert", "create", "update many", "upsert many", "view", "view many":
		return state.transact(in, out)
	case "delete":
		*s = s.ended()
	case "touch":
		switch out.err {
		case "":
			ok = s.alive
		default:
			*s, ok = s.expired(out.at)
		}
	case "listed", "waited":
		*s, ok = s.meet(out.seen[0], false, out.at)
	case "listed of user":
		if out.seen[0].there || s.alive && s.user == in.user {
			*s, ok = s.meet(out.seen[0], false, out.at)
			ok = ok && (!s.alive || s.user == in.user)
		}
	case "end of user": // what was seen says whether this call ended it
		switch match := s.alive && s.user == in.user; {
		case out.seen[0].there:
			*s, ok = s.ended(), match
		case match:
			*s, ok = s.expired(out.at)
		}
	case "end of user, untold":
		if s.alive && s.user == in.user {
			*s = s.ended()
		}
	case "resolve":
		switch good := s.alive && s.token != "" && s.token == in.token; {
		case out.seen[0].there:
			ok = good && s.epoch == out.seen[0].epoch
		case good:
			*s, ok = s.expired(out.at)
		}
	default:
		panic(in.verb)
	}
	return ok, state
}

// transact is a transaction on one or more sessions.
func (state linearState) transact(in linearInput, out linearOutput) (bool, linearState) {
	ok := true
	switch out.err {
	case "not found": // of one of them
		s := &state[out.missing]
		*s, ok = s.expired(out.at)
		return ok, state
	case "exists":
		return state[in.at[0]].alive, state
	}
	next := state
	for i, at := range in.at {
		s, ok := state[at].meet(out.seen[i], true, out.at)
		if !ok || in.verb == "create" && s.alive || !s.alive && (in.verb == "update" || in.verb == "update many") {
			return false, state
		}
		next[at] = s
		if in.verb != "view" && in.verb != "view many" {
			change := in.change
			if i == 1 {
				change.add = -change.add
			}
			next[at] = s.after(change, out.did[i])
		}
	}
	return true, next
}

// linearModel is for one set; sets are independent of each other.
var linearModel = porcupine.Model{
	Init: func() any { return linearState{} },
	Step: func(state, input, output any) (bool, any) {
		return state.(linearState).step(input.(linearInput), output.(linearOutput))
	},
	Hash: func(state any) uint64 {
		h := uint64(14695981039346656037)
		for _, s := range state.(linearState) {
			h = (h ^ uint64(s.value) ^ s.version<<20 ^ s.least<<40 ^ s.epoch<<60) * 1099511628211
			if s.alive {
				h++
			}
		}
		return h
	},
	DescribeOperation: func(input, output any) string {
		in, out := input.(linearInput), output.(linearOutput)
		s := fmt.Sprintf("%s %v", in.verb, in.at)
		if in.verb != "view" && in.change != (linearChange{}) {
			s += fmt.Sprintf(" %+v", in.change)
		}
		if in.user != "" {
			s += " " + in.user
		}
		return fmt.Sprintf("%s → %s %+v", s, out.err, out.seen)
	},
	DescribeState: func(state any) string { return fmt.Sprintf("%+v", state) },
}

// linearNever is the return of an operation that may or may not have had its effect.
const linearNever = math.MaxInt64
