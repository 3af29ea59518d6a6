package sessionhttp

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sessile-go/sessile"
)

// What this package keeps in sessions lies under keys that begin with 0x00, which Txn.All and Len skip.
var (
	flashes    = sessile.NewKey[[]Flash]("\x00http.flash")
	flows      = sessile.NewKey[[]flow]("\x00http.flow")
	onces      = sessile.NewKey[[]once]("\x00http.once")
	remembered = sessile.NewKey[bool]("\x00http.remember")
)

// The limits of what one session keeps.
const (
	maxFlashes = 16
	maxFlows   = 16
	maxOnces   = 64
)

// beginAnew is what a login does: what was begun before it is not the user's, and whether to remember him is decided again.
func beginAnew(tx sessile.Txn) error {
	return errors.Join(flows.Delete(tx), onces.Delete(tx), remembered.Delete(tx), tx.SetIdleTimeout(0))
}

// Remember keeps a session that would end with the browser ([Options.BrowserSession]) for d after its last use, across
// restarts of the browser: "remember me". Call it in the callback of Login; one without it forgets. Its token is, like every other one, kept
// as a hash, and the engine's Lifetime still ends it.
func Remember(tx sessile.Txn, d time.Duration) error {
	if err := tx.SetIdleTimeout(d); err != nil {
		return err
	}
	return remembered.Set(tx, true)
}

// A Flash is a message for the next page.
type Flash struct {
	Kind string // such as "error"
	Text string
}

// AddFlash adds a message. A session keeps 16; then the oldest goes.
func AddFlash(tx sessile.Txn, f Flash) error {
	return flashes.Modify(tx, func(all *[]Flash) error {
		*all = append(*all, f)
		*all = (*all)[max(0, len(*all)-maxFlashes):]
		return nil
	})
}

// PopFlashes returns the messages and removes them: of overlapping requests one gets each message.
func PopFlashes(tx sessile.Txn) ([]Flash, error) {
	all, _, err := flashes.Pop(tx)
	return all, err
}

// A flow is one that was begun.
type flow struct {
	Name    string
	Hash    [sha256.Size]byte
	Expires int64 // Unix time in ms
	State   []byte
}

// BeginFlow keeps state for something that goes on in another request of the same session, and returns the token
// with which it is taken: OAuth's state parameter, a form's or a wizard's number. Parallel tabs have flows of their own. The
// session holds only a hash of the token, and at most 16 flows; then the oldest goes. A flow ends after ttl, and with a login.
func BeginFlow(tx sessile.Txn, name string, ttl time.Duration, state []byte) (token string, err error) {
	var secret [32]byte
	rand.Read(secret[:])
	token = base64.RawURLEncoding.EncodeToString(secret[:])
	now := time.Now()
	f := flow{Name: name, Hash: sha256.Sum256([]byte(token)), Expires: now.Add(ttl).UnixMilli(), State: slices.Clone(state)}
	err = flows.Modify(tx, func(all *[]flow) error {
		*all = append(slices.DeleteFunc(*all, func(f flow) bool { return f.Expires <= now.UnixMilli() }), f)
		*all = (*all)[max(0, len(*all)-maxFlows):]
		return nil
	})
	if err != nil {
		return "", err
	}
	return token, nil
}

// TakeFlow returns the state of a flow and removes it: a token is good once. ok is false for one that is unknown,
// of another name, taken or too old.
func TakeFlow(tx sessile.Txn, name, token string) (state []byte, ok bool, err error) {
	all, err := flows.Get(tx)
	if err != nil {
		return nil, false, err
	}
	hash := sha256.Sum256([]byte(token))
	i := slices.IndexFunc(all, func(f flow) bool { return f.Hash == hash && f.Name == name })
	if i < 0 {
		return nil, false, nil
	}
	f := all[i]
	if err := flows.Set(tx, slices.Delete(all, i, i+1)); err != nil {
		return nil, false, err
	}
	if f.Expires <= time.Now().UnixMilli() {
		return nil, false, nil
	}
	return f.State, true, nil
}

// A once is a key that was used.
type once struct {
	Hash    [sha256.Size]byte
	Expires int64 // Unix time in ms
}

// Once reports whether key is new to the session, and from then on, for ttl, that it is not: against double
// submits. What must happen once goes into the same transaction. A session keeps 64 keys; one more that is new is
// sessile.ErrTooLarge. A login forgets them.
func Once(tx sessile.Txn, key string, ttl time.Duration) (first bool, err error) {
	now := time.Now()
	all, err := onces.Get(tx)
	if err != nil {
		return false, err
	}
	all = slices.DeleteFunc(all, func(o once) bool { return o.Expires <= now.UnixMilli() })
	hash := sha256.Sum256([]byte(key))
	if slices.ContainsFunc(all, func(o once) bool { return o.Hash == hash }) {
		return false, nil
	}
	if len(all) >= maxOnces {
		return false, fmt.Errorf("%w: %d keys of Once", sessile.ErrTooLarge, len(all))
	}
	return true, onces.Set(tx, append(all, once{hash, now.Add(ttl).UnixMilli()}))
}
