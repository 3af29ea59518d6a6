package scsstore

import (
	"bytes"
	"container/list"
	"sync"
	"time"

	"github.com/sessile-go/sessile"
)

// RenewToken is, to a store, a deletion of the old token and, when the request ends, a commit under a new one. Nothing
// ties the two together but the request. The new session must begin with what the old one last was, or writes of others are
// lost; and it must not begin at all if somebody else ended the old one, or a logout is undone. endings remembers how
// sessions ended for that commit.
//
// Which request ended the session? The one whose call found it alive, the winner. A commit is the winner's if no other
// request has called Delete at all, since each committer has; or if its context's Done channel is
// the winner's, since net/http makes one for each request. Where neither is known the commit is refused.
type endings struct {
	mu    sync.Mutex
	m     map[string]*ending
	order list.List // of *ending, the oldest first
	bytes int
}

// The limits of what is remembered. Beyond them the oldest ending goes, and a renewal still under way is refused.
const (
	endingsMax     = 1 << 14
	endingBytesMax = 16 << 20
	endingAge      = 5 * time.Minute
)

type ending struct {
	id     string
	begun  time.Time
	calls  int             // of Delete
	won    bool            // one of them ended the session
	winner <-chan struct{} // its request's Done
	used   bool            // what was left has been taken
	left   remains
	at     *list.Element
}

// remains is what a session last was.
type remains struct {
	user   string
	fields map[string][]byte
	bytes  int
}

func remainsOf(tx sessile.Txn) remains {
	r := remains{user: tx.Info().User, fields: make(map[string][]byte)}
	for key, value := range tx.All() {
		r.fields[key] = bytes.Clone(value)
		r.bytes += len(key) + len(value)
	}
	return r
}

// A call is one call of Delete.
type call struct {
	end  *ending
	done <-chan struct{}
}

// begin counts a call of Delete, before it takes effect: so when a call has found the session ended, the winner's call
// is counted too.
func (e *endings) begin(id string, done <-chan struct{}) call {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	end := e.m[id]
	if end == nil {
		if e.m == nil {
			e.m = make(map[string]*ending)
		}
		end = &ending{id: id, begun: now}
		end.at = e.order.PushBack(end)
		e.m[id] = end
	}
	end.calls++
	e.trimLocked(now)
	return call{end, done}
}

// won records that the call ended the session.
func (e *endings) won(c call, left remains) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c.end.won, c.end.winner = true, c.done
	if e.m[c.end.id] == c.end {
		c.end.left = left
		e.bytes += left.bytes
		e.trimLocked(time.Now())
	}
}

// of returns what was left of the session, if the request with the Done channel is the one that ended it.
func (e *endings) of(id string, done <-chan struct{}) (left remains, ok bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	end := e.m[id]
	if end == nil || !end.won || end.used || end.calls > 1 && (done == nil || done != end.winner) {
		return remains{}, false
	}
	return end.left, true
}

// taken drops what was left: it has a new session.
func (e *endings) taken(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if end := e.m[id]; end != nil {
		end.used = true
		e.bytes -= end.left.bytes
		end.left = remains{}
	}
}

func (e *endings) trimLocked(now time.Time) {
	for at := e.order.Front(); at != nil; at = e.order.Front() {
		end := at.Value.(*ending)
		if len(e.m) <= endingsMax && e.bytes <= endingBytesMax && now.Sub(end.begun) < endingAge {
			return
		}
		e.order.Remove(at)
		delete(e.m, end.id)
		e.bytes -= end.left.bytes
	}
}
