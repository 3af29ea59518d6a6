package sessile_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/sessile-go/sessile"
)

// A linearInput is one operation.
type linearInput struct {
	verb   string
	at     []int // places of its sessions in the set
	change linearChange
	user   string
	token  string
}

// A linearOutput is what it answered.
type linearOutput struct {
	err     string // "", "not found", "exists", or what no operation may answer
	missing int    // the session that was not found
	seen    [2]linearSeen
	did     [2]linearDid
	at      int64 // wall clock at its return
}

// A linearWorker calls operations one after the other.
type linearWorker struct {
	run    *linearRun
	client int
	r      *rand.Rand
	waited uint64 // the version of its last Wait
}

var linearVerbs = []string{
	"update", "update", "update", "upsert", "upsert", "view", "view", "view", "create", "delete", "touch", "update many", "update many",
	"upsert many", "view many", "view many", "new", "all", "by user", "delete user", "keep newest", "resolve", "resolve", "wait", "flush", "stats",
}

func (w *linearWorker) change(set *linearSet) (c linearChange) {
	r := w.r
	c.add = int64(1 + r.Intn(99))
	c.durable = r.Intn(20) == 0
	if r.Intn(5) == 0 {
		c.user = []string{set.user(0), set.user(1), "-"}[r.Intn(3)]
	}
	if r.Intn(8) == 0 {
		c.deadline = []string{"past", "soon", "soon", "none"}[r.Intn(4)]
	}
	c.login = r.Intn(8) == 0
	c.end = []string{"", "", "", "", "", "", "", "error", "panic", "destroy"}[r.Intn(10)]
	return c
}

// step does one operation on some set.
func (w *linearWorker) step() {
	r := w.r
	set := w.run.anySet(r)
	verb := linearVerbs[r.Intn(len(linearVerbs))]
	a := r.Intn(len(set.ids))
	in := linearInput{verb: verb, at: []int{a}}
	switch verb {
	case "update many", "upsert many", "view many":
		if len(set.ids) > 1 {
			in.at = append(in.at, (a+1+r.Intn(len(set.ids)-1))%len(set.ids))
		}
		in.change = w.change(set)
		w.transact(set, in)
	case "update", "upsert", "create":
		in.change = w.change(set)
		if verb == "create" && in.change.end == "destroy" {
			in.change.end = "" // there never was one, and nothing to see
		}
		w.transact(set, in)
	case "view":
		w.transact(set, in)
	case "new":
		w.newSession()
	case "delete":
		w.record(set, in, func(out *linearOutput) error { return w.run.e.Delete(ctx, set.ids[a]) })
	case "touch":
		w.record(set, in, func(out *linearOutput) error { return w.run.e.Touch(ctx, set.ids[a]) })
	case "resolve":
		w.resolve(set, a)
	case "wait":
		w.wait(set, a)
	case "all", "by user":
		w.list(set, verb)
	case "delete user":
		w.deleteUser(set)
	case "keep newest":
		w.keepNewest(set)
	case "flush":
		if err := w.run.e.Flush(ctx); err != nil && !w.run.excused(err) && !(w.run.closing && errors.Is(err, sessile.ErrClosed)) &&
			!(w.run.full && errors.Is(err, sessile.ErrDiskFull)) {
			w.run.t.Errorf("flush: %v", err)
		}
	case "stats":
		if s := w.run.e.Stats(); s.Sessions < 0 || s.Anonymous < 0 || s.Running < 0 || s.LogBytes < 0 {
			w.run.t.Errorf("stats: %+v", s)
		}
	}
}

// call does the operation and notes its answer.
func (w *linearWorker) call(set *linearSet, in linearInput, do func(out *linearOutput) error) (op porcupine.Operation, err error) {
	run := w.run
	op = porcupine.Operation{ClientId: w.client, Input: in, Call: run.clock.Add(1)}
	var out linearOutput
	err = do(&out)
	op.Return = run.clock.Add(1)
	out.at = time.Now().UnixNano()
	switch {
	case err == nil, errors.Is(err, errModel):
	case errors.Is(err, sessile.ErrDurabilityUnknown) && errors.Is(err, sessile.ErrDiskFull): // it stands
	case errors.Is(err, sessile.ErrDurabilityUnknown) && errors.Is(err, sessile.ErrClosed): // it does in memory, which nobody sees any more
		op.Return = linearNever
	case errors.Is(err, sessile.ErrNotFound):
		out.err = "not found"
		out.missing = in.at[0]
		if len(in.at) == 2 && strings.Contains(err.Error(), fmt.Sprintf("%q", set.ids[in.at[1]])) {
			out.missing = in.at[1]
		}
	case errors.Is(err, sessile.ErrExists):
		out.err = "exists"
	default:
		out.err = err.Error()
	}
	op.Output = out
	return op, err
}

// record does an operation and keeps it. One that was refused has done nothing, and is not kept.
func (w *linearWorker) record(set *linearSet, in linearInput, do func(out *linearOutput) error) (op porcupine.Operation, kept bool, err error) {
	op, err = w.call(set, in, do)
	if err != nil && w.run.excused(err) {
		return op, false, err
	}
	set.keep(op)
	return op, true, err
}

// observe reads what a transaction sees of its session.
func observeTxn(tx sessile.Txn) (seen linearSeen, err error) {
	info := tx.Info()
	seen = linearSeen{there: info.Version != 0, user: info.User, version: info.Version, epoch: tx.Epoch()}
	seen.value, err = counter.Get(tx)
	return seen, err
}

// transact calls a transaction. What its callback saw holds also if it came to nothing.
func (w *linearWorker) transact(set *linearSet, in linearInput) porcupine.Operation {
	e := w.run.e
	ids := make([]string, len(in.at))
	for i, at := range in.at {
		ids[i] = set.ids[at]
	}
	ran := false
	var seen [2]linearSeen
	fn := func(out *linearOutput) func(txs []sessile.Txn) error {
		return func(txs []sessile.Txn) error {
			w.dawdle()
			for i, tx := range txs {
				var err error
				if seen[i], err = observeTxn(tx); err != nil {
					return err
				}
			}
			ran, out.seen = true, seen
			if in.verb == "view" || in.verb == "view many" {
				return nil
			}
			for i, tx := range txs {
				change := in.change
				if i == 1 {
					change.add = -change.add
				}
				if err := w.apply(set, in.at[i], tx, change, &out.did[i]); err != nil {
					return err
				}
			}
			switch in.change.end {
			case "error":
				return errModel
			case "panic":
				panic(errModel)
			}
			return nil
		}
	}
	op, kept, err := w.record(set, in, func(out *linearOutput) error {
		many := fn(out)
		one := func(tx sessile.Txn) error { return many([]sessile.Txn{tx}) }
		return guarded(func() error {
			switch in.verb {
			case "update":
				return e.Update(ctx, ids[0], one)
			case "upsert":
				return e.Upsert(ctx, ids[0], one)
			case "create":
				return e.CreateID(ctx, ids[0], one)
			case "view":
				return e.View(ctx, ids[0], one)
			case "update many":
				return e.UpdateMany(ctx, ids, many)
			case "upsert many":
				return e.UpsertMany(ctx, ids, many)
			case "view many":
				return e.ViewMany(ctx, ids, many)
			}
			panic(in.verb)
		})
	})
	if ran && kept && errors.Is(err, sessile.ErrNotFound) { // it ended under the callback, which had seen it
		view, out := op, op.Output.(linearOutput)
		out.err, out.seen = "", seen
		view.Input, view.Output, view.ClientId = linearInput{verb: "view many", at: in.at}, out, w.client+linearWorkers
		set.keep(view)
	}
	return op
}

// apply does a change.
func (w *linearWorker) apply(set *linearSet, at int, tx sessile.Txn, c linearChange, did *linearDid) (err error) {
	if _, err = sessile.Add(tx, counter, c.add); err != nil {
		return err
	}
	switch c.user {
	case "":
	case "-":
		err = tx.SetUser("")
	default:
		err = tx.SetUser(c.user)
	}
	var deadline time.Time
	switch c.deadline {
	case "past":
		deadline = time.Now().Add(-time.Hour)
	case "soon":
		deadline = time.Now().Add(time.Duration(w.r.Intn(4000)) * time.Microsecond)
	}
	if c.deadline != "" {
		if !deadline.IsZero() {
			did.deadline = deadline.UnixNano()
		}
		err = errors.Join(err, tx.SetDeadline(deadline))
	}
	if c.login {
		var tokenErr error
		did.token, tokenErr = tx.NewToken(sessile.TokenLogin)
		err = errors.Join(err, tokenErr)
		set.tokens[at].Store(&did.token)
	}
	if c.end == "destroy" {
		err = errors.Join(err, tx.Destroy())
	}
	if c.durable {
		tx.Durable()
	}
	return err
}

// dawdle makes some callbacks slow.
func (w *linearWorker) dawdle() {
	switch w.r.Intn(12) {
	case 0:
		for until := time.Now().Add(20 * time.Microsecond); time.Now().Before(until); {
			runtime.Gosched()
		}
	case 1, 2:
		runtime.Gosched()
	}
}

// newSession makes a session with an id of the engine's, and a set of it.
func (w *linearWorker) newSession() {
	set := &linearSet{}
	in := linearInput{verb: "create", at: []int{0}, change: linearChange{add: int64(w.r.Intn(100))}}
	op, err := w.call(set, in, func(out *linearOutput) error {
		id, err := w.run.e.Create(ctx, func(tx sessile.Txn) (err error) {
			if out.seen[0], err = observeTxn(tx); err != nil {
				return err
			}
			_, err = sessile.Add(tx, counter, in.change.add)
			return err
		})
		if (id == "") != (err != nil && !errors.Is(err, sessile.ErrDurabilityUnknown)) {
			w.run.t.Errorf("create: id %q, %v", id, err)
		}
		set.ids = []string{id}
		return err
	})
	if err != nil && w.run.excused(err) {
		return
	}
	set.keep(op)
	w.run.addSet(set)
}

func (w *linearWorker) resolve(set *linearSet, a int) {
	token := set.tokens[a].Load()
	if token == nil {
		return
	}
	_, _, _ = w.record(set, linearInput{verb: "resolve", at: []int{a}, token: *token}, func(out *linearOutput) error {
		grant, err := w.run.e.Resolve(ctx, *token)
		if err == nil && grant.ID != set.ids[a] {
			return fmt.Errorf("a token of %q is good for %q", set.ids[a], grant.ID)
		}
		out.seen[0] = linearSeen{there: err == nil, epoch: grant.Epoch}
		if errors.Is(err, sessile.ErrNoToken) || errors.Is(err, sessile.ErrRenewed) || errors.Is(err, sessile.ErrEnded) {
			return nil
		}
		return err
	})
}

// wait waits for a moment for a version newer than some other session's.
func (w *linearWorker) wait(set *linearSet, a int) {
	short, cancel := context.WithTimeout(ctx, 200*time.Microsecond)
	defer cancel()
	after := w.waited
	op, err := w.call(set, linearInput{verb: "waited", at: []int{a}}, func(out *linearOutput) error {
		info, err := w.run.e.Wait(short, set.ids[a], after)
		if err == nil {
			w.waited = info.Version
			out.seen[0] = linearSeen{there: true, user: info.User, version: info.Version}
			if info.Version <= after {
				return fmt.Errorf("version %d is not above %d", info.Version, after)
			}
		}
		if errors.Is(err, sessile.ErrNotFound) {
			return nil
		}
		return err
	})
	if errors.Is(err, context.DeadlineExceeded) || err != nil && w.run.excused(err) {
		return
	}
	set.keep(op)
}

// list calls All or ByUser: each session of the set is seen at an instant of its own.
func (w *linearWorker) list(set *linearSet, verb string) {
	e, user := w.run.e, ""
	seq, listed := e.All(ctx), "listed"
	if verb == "by user" {
		user = set.user(w.r.Intn(2))
		seq, listed = e.ByUser(ctx, user), "listed of user"
	}
	seen := make([]linearSeen, len(set.ids))
	op, err := w.call(set, linearInput{verb: listed, at: []int{0}}, func(*linearOutput) error {
		for info, err := range seq {
			if err != nil {
				return err
			}
			if i := slices.Index(set.ids, info.ID); i >= 0 {
				if seen[i].there {
					return fmt.Errorf("%q is listed twice", info.ID)
				}
				seen[i] = linearSeen{there: true, user: info.User, version: info.Version}
			}
		}
		return nil
	})
	if err != nil {
		if !w.run.excused(err) {
			w.run.t.Errorf("%s: %v", verb, err)
		}
		return
	}
	w.split(set, op, linearInput{verb: listed, user: user}, seen)
}

// split keeps an operation that looks at each session of the set at an instant of its own.
func (w *linearWorker) split(set *linearSet, op porcupine.Operation, in linearInput, seen []linearSeen) {
	for i := range seen {
		part := op
		in.at = []int{i}
		out := op.Output.(linearOutput)
		out.seen[0] = seen[i]
		part.Input, part.Output, part.ClientId = in, out, w.client+(1+i)*linearWorkers
		set.keep(part)
	}
}

func (w *linearWorker) deleteUser(set *linearSet) {
	user := set.user(w.r.Intn(2))
	only := w.r.Intn(2*len(set.ids)) - len(set.ids) // one session, or negative: all
	var except []string
	for i, id := range set.ids {
		if only >= 0 && i != only {
			except = append(except, id)
		}
	}
	n := 0
	op, err := w.call(set, linearInput{verb: "end of user, untold", at: []int{0}, user: user}, func(*linearOutput) (err error) {
		n, err = w.run.e.DeleteUser(ctx, user, except...)
		return err
	})
	if err != nil && w.run.excused(err) {
		return
	}
	if n > len(set.ids)-len(except) {
		w.run.t.Errorf("delete user: %d ended", n)
	}
	in := linearInput{verb: "end of user, untold", user: user}
	if only < 0 {
		w.split(set, op, in, make([]linearSeen, len(set.ids)))
		return
	}
	in.at, in.verb = []int{only}, "end of user"
	out := op.Output.(linearOutput)
	out.seen[0].there = n == 1
	op.Input, op.Output = in, out
	set.keep(op)
}

func (w *linearWorker) keepNewest(set *linearSet) {
	user, keep := set.user(w.r.Intn(2)), w.r.Intn(2)
	var ended []string
	op, err := w.call(set, linearInput{verb: "end of user", at: []int{0}, user: user}, func(*linearOutput) (err error) {
		ended, err = w.run.e.KeepNewest(ctx, user, keep)
		return err
	})
	if err != nil && w.run.excused(err) {
		return
	}
	for i, id := range set.ids {
		there := slices.Contains(ended, id)
		if !there && keep > 0 {
			continue
		}
		part := op
		out := op.Output.(linearOutput)
		out.seen[0].there = there
		part.Input, part.Output, part.ClientId = linearInput{verb: "end of user", at: []int{i}, user: user}, out, w.client+(1+i)*linearWorkers
		set.keep(part)
	}
}
