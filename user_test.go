package sessile_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/stretchr/testify/require"
)

// sessionsOf returns the sorted ids of a user's sessions.
func sessionsOf(t *testing.T, e *sessile.Engine, user string) (ids []string) {
	t.Helper()
	for info, err := range e.ByUser(ctx, user) {
		require.NoError(t, err)
		require.Equal(t, user, info.User)
		ids = append(ids, info.ID)
	}
	slices.Sort(ids)
	return ids
}

func as(user string) func(sessile.Txn) error {
	return func(tx sessile.Txn) error { return tx.SetUser(user) }
}

func TestUsers(t *testing.T) {
	eachMode(t, sessile.Options{}, func(t *testing.T, e *sessile.Engine) {
		for i := range 4 {
			require.NoError(t, e.CreateID(ctx, fmt.Sprint("a", i), as("ann")))
		}
		require.NoError(t, e.CreateID(ctx, "b", as("bob")))
		require.NoError(t, e.CreateID(ctx, "x", nil))
		require.EqualValues(t, 1, e.Stats().Anonymous)
		require.Equal(t, []string{"a0", "a1", "a2", "a3"}, sessionsOf(t, e, "ann"))

		require.NoError(t, e.Update(ctx, "a0", as("bob")))
		require.NoError(t, e.Update(ctx, "a1", as("")))
		require.Equal(t, []string{"a2", "a3"}, sessionsOf(t, e, "ann"))
		require.Equal(t, []string{"a0", "b"}, sessionsOf(t, e, "bob"))
		require.EqualValues(t, 2, e.Stats().Anonymous)

		n, err := e.DeleteUser(ctx, "bob", "b")
		require.NoError(t, err)
		require.Equal(t, 1, n)
		require.Equal(t, []string{"b"}, sessionsOf(t, e, "bob"))
		require.ErrorIs(t, e.View(ctx, "a0", nil), sessile.ErrNotFound)
		n, err = e.DeleteUser(ctx, "nobody")
		require.NoError(t, err)
		require.Zero(t, n)
	})
}

// The same with sessions that are cold, after a reopen, and with the index kept
// in step on disk.
func TestUsersOnDisk(t *testing.T) {
	opt := sessile.Options{Dir: t.TempDir()}
	e := open(t, opt)
	for i := range 6 {
		require.NoError(t, e.CreateID(ctx, fmt.Sprint("a", i), as("ann")))
	}
	e = reopen(t, e, opt)
	require.NoError(t, sessile.CheckDisk(e))
	require.Len(t, sessionsOf(t, e, "ann"), 6)
	require.Zero(t, e.Stats().Hot, "a list makes nothing hot")
	require.NoError(t, e.Update(ctx, "a0", as("bob")))
	require.NoError(t, e.Delete(ctx, "a1"))
	require.Len(t, sessionsOf(t, e, "ann"), 4)
	sessile.Checkpoint(e)
	require.NoError(t, e.Update(ctx, "a0", as("cid")))
	require.NoError(t, e.Update(ctx, "a0", as("ann")))
	e = reopen(t, e, opt)
	require.NoError(t, sessile.CheckDisk(e))
	require.Len(t, sessionsOf(t, e, "ann"), 5)
	n, err := e.DeleteUser(ctx, "ann", "a5")
	require.NoError(t, err)
	require.Equal(t, 4, n)
	e = reopen(t, e, opt)
	require.NoError(t, sessile.CheckDisk(e))
	require.Equal(t, []string{"a5"}, sessionsOf(t, e, "ann"))
}

func TestKeepNewest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reasons []sessile.Reason
		e, err := sessile.Open(sessile.Options{InMemory: true, OnEnd: func(_ sessile.Info, r sessile.Reason) { reasons = append(reasons, r) }})
		require.NoError(t, err)
		require.NoError(t, e.CreateID(ctx, "old", nil))
		for i := range 4 {
			time.Sleep(time.Second)
			require.NoError(t, e.CreateID(ctx, fmt.Sprint(i), as("ann")))
		}
		time.Sleep(time.Second)
		require.NoError(t, e.Update(ctx, "old", as("ann")), "an old session logs in last")
		ended, err := e.KeepNewest(ctx, "ann", 2)
		require.NoError(t, err)
		slices.Sort(ended)
		require.Equal(t, []string{"0", "1", "2"}, ended)
		require.Equal(t, []string{"3", "old"}, sessionsOf(t, e, "ann"))
		require.Equal(t, slices.Repeat([]sessile.Reason{sessile.ReasonLimit}, 3), reasons)
		ended, err = e.KeepNewest(ctx, "ann", 2)
		require.NoError(t, err)
		require.Empty(t, ended)
		require.NoError(t, e.Close())
	})
}

func TestMaxAnonymous(t *testing.T) {
	opt := sessile.Options{Dir: t.TempDir(), MaxAnonymous: 2}
	e := open(t, opt)
	require.NoError(t, e.CreateID(ctx, "a", nil))
	require.NoError(t, e.CreateID(ctx, "b", nil))
	require.ErrorIs(t, e.CreateID(ctx, "c", nil), sessile.ErrTooMany)
	require.NoError(t, e.CreateID(ctx, "c", as("ann")))
	require.ErrorIs(t, e.Update(ctx, "c", as("")), sessile.ErrTooMany)
	require.ErrorIs(t, e.UpsertMany(ctx, []string{"d", "e"}, func(txs []sessile.Txn) error { return txs[0].SetUser("x") }), sessile.ErrTooMany)
	e = reopen(t, e, opt)
	require.ErrorIs(t, e.CreateID(ctx, "c2", nil), sessile.ErrTooMany, "cold sessions count")
	require.NoError(t, e.Delete(ctx, "a"))
	require.NoError(t, e.CreateID(ctx, "c2", nil))
	require.EqualValues(t, 2, e.Stats().Anonymous)
}

func TestAll(t *testing.T) {
	opt := sessile.Options{Dir: t.TempDir()}
	e := open(t, opt)
	want := map[string]bool{}
	for i := range 1000 {
		id := fmt.Sprint(i)
		require.NoError(t, e.CreateID(ctx, id, nil))
		want[id] = true
	}
	e = reopen(t, e, opt)
	require.NoError(t, e.Delete(ctx, "7"))
	delete(want, "7")
	for i := range 300 {
		_ = e.Touch(ctx, fmt.Sprint(i))
	}
	got := map[string]bool{}
	for info, err := range e.All(ctx) {
		require.NoError(t, err)
		require.False(t, got[info.ID], "each once")
		got[info.ID] = true
		require.NoError(t, e.View(ctx, info.ID, nil), "the body may call anything")
	}
	require.Equal(t, want, got)
	for range e.All(ctx) {
		break
	}
}

func newToken(t *testing.T, e *sessile.Engine, id string, kind sessile.TokenKind) (token string) {
	t.Helper()
	require.NoError(t, e.Update(ctx, id, func(tx sessile.Txn) (err error) {
		token, err = tx.NewToken(kind)
		return err
	}))
	return token
}

func TestTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := sessile.Open(sessile.Options{InMemory: true})
		require.NoError(t, err)
		id := create(t, e, nil)
		first := newToken(t, e, id, sessile.TokenLogin)
		grant, err := e.Resolve(ctx, first)
		require.NoError(t, err)
		require.Equal(t, sessile.Grant{ID: id, Epoch: 1}, grant)

		// Renewal: the old one lives until the new one is presented, and a little longer.
		time.Sleep(time.Hour)
		second := newToken(t, e, id, sessile.TokenRefresh)
		_, err = e.Resolve(ctx, first)
		require.NoError(t, err)
		time.Sleep(time.Hour)
		_, err = e.Resolve(ctx, first)
		require.NoError(t, err, "the response was lost, the old one still works")
		grant, err = e.Resolve(ctx, second)
		require.NoError(t, err)
		require.EqualValues(t, 1, grant.Epoch, "a renewal keeps the epoch")
		_, err = e.Resolve(ctx, first)
		require.NoError(t, err, "requests under way")
		time.Sleep(6 * time.Second)
		_, err = e.Resolve(ctx, first)
		require.ErrorIs(t, err, sessile.ErrRenewed)
		time.Sleep(2 * time.Minute)
		_, err = e.Resolve(ctx, first)
		require.ErrorIs(t, err, sessile.ErrNoToken)

		// A login kills all that was before it, at once.
		third := newToken(t, e, id, sessile.TokenLogin)
		_, err = e.Resolve(ctx, second)
		require.ErrorIs(t, err, sessile.ErrRenewed)
		grant, err = e.Resolve(ctx, third)
		require.NoError(t, err)
		require.EqualValues(t, 2, grant.Epoch)
		require.NoError(t, e.View(ctx, id, func(tx sessile.Txn) error {
			require.EqualValues(t, 2, tx.Epoch())
			require.Zero(t, tx.Len(), "tokens are out of reach")
			return nil
		}))

		require.NoError(t, e.Delete(ctx, id))
		_, err = e.Resolve(ctx, third)
		require.ErrorIs(t, err, sessile.ErrEnded)
		_, err = e.Resolve(ctx, id+third[strings.IndexByte(third, '.'):][:43]+"A")
		require.Error(t, err)
		time.Sleep(2 * time.Minute)
		_, err = e.Resolve(ctx, third)
		require.ErrorIs(t, err, sessile.ErrNoToken)
		require.NoError(t, e.Close())
	})
}

func TestTokensThatAreNone(t *testing.T) {
	opt := sessile.Options{Dir: t.TempDir()}
	e := open(t, opt)
	require.NoError(t, e.CreateID(ctx, "id", nil))
	require.NoError(t, e.CreateID(ctx, "no cookie; of mine", func(tx sessile.Txn) error {
		_, err := tx.NewToken(sessile.TokenLogin)
		require.ErrorIs(t, err, sessile.ErrInvalidID)
		return nil
	}))
	token := newToken(t, e, "id", sessile.TokenLogin)
	secret := token[len("id."):]
	for _, bad := range []string{
		"", ".", "id", "id.", "." + secret, secret, token + "A", token[:len(token)-1], "id." + secret[:42] + "=",
		"id." + secret[:42] + "\n", "ie." + secret, "id." + strings.Repeat("A", 43), "id .." + secret, strings.Repeat("i", 300) + "." + secret,
	} {
		_, err := e.Resolve(ctx, bad)
		require.ErrorIs(t, err, sessile.ErrNoToken, "%q", bad)
	}
	// Not canonical: the last character has bits that belong to no byte.
	last := strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", token[len(token)-1])
	other := "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last^1]
	_, err := e.Resolve(ctx, token[:len(token)-1]+string(other))
	require.ErrorIs(t, err, sessile.ErrNoToken)

	e = reopen(t, e, opt)
	_, err = e.Resolve(ctx, token)
	require.NoError(t, err)
	opt.TokensNotBefore = time.Now().Add(time.Second)
	e = reopen(t, e, opt)
	_, err = e.Resolve(ctx, token)
	require.ErrorIs(t, err, sessile.ErrNoToken)
	require.NoError(t, e.View(ctx, "id", nil), "the session is kept")
}

// Rolled back with its transaction, a token is none.
func TestTokenRollback(t *testing.T) {
	e := open(t, sessile.Options{InMemory: true})
	id := create(t, e, nil)
	good := newToken(t, e, id, sessile.TokenLogin)
	var lost string
	cause := errors.New("cause")
	require.ErrorIs(t, e.Update(ctx, id, func(tx sessile.Txn) error { lost, _ = tx.NewToken(sessile.TokenLogin); return cause }), cause)
	_, err := e.Resolve(ctx, lost)
	require.ErrorIs(t, err, sessile.ErrNoToken)
	_, err = e.Resolve(ctx, good)
	require.NoError(t, err)
}
