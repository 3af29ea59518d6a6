package sessile_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/internal/store"
	"github.com/stretchr/testify/require"
)

// Any id, user and key is either refused or kept: in memory, on disk, in the index and in lists.
func FuzzNames(f *testing.F) {
	f.Add("id", "user", "key", []byte("value"), false)
	f.Add("", "", "", []byte{}, false)
	f.Add("i\x00d\xff", "u\x00", "\xff", []byte{0}, true)
	f.Add(strings.Repeat("i", sessile.MaxIDLen+1), "u", "k", []byte{}, true)
	f.Add("i", strings.Repeat("u", sessile.MaxIDLen+1), strings.Repeat("k", sessile.MaxKeyLen+1), []byte{}, false)
	f.Add("i", "u", "\x00\x00u", []byte("v"), false)
	f.Fuzz(func(t *testing.T, id, user, key string, value []byte, encrypted bool) {
		ctx := context.Background()
		opt := sessile.Options{Dir: "in memory"}
		if encrypted {
			opt.EncryptionKeys = [][]byte{make([]byte, 32)}
		}
		disk := store.NewMem()
		life := func(work func(e *sessile.Engine)) {
			st, err := disk.Open()
			require.NoError(t, err)
			e, err := sessile.OpenOn(opt, st)
			require.NoError(t, err)
			work(e)
			require.NoError(t, e.Close())
		}
		goodID := len(id) > 0 && len(id) <= sessile.MaxIDLen
		goodUser := len(user) <= sessile.MaxIDLen
		goodKey := len(key) > 0 && len(key) <= sessile.MaxKeyLen && !strings.HasPrefix(key, "\x00\x00")
		if len(value) > 60<<10 {
			return // too large a session
		}
		kept := false
		life(func(e *sessile.Engine) {
			err := e.CreateID(ctx, id, func(tx sessile.Txn) error {
				if err := tx.SetUser(user); err != nil {
					return err
				}
				return tx.Set(key, value)
			})
			switch {
			case !goodID || !goodUser:
				require.ErrorIs(t, err, sessile.ErrInvalidID)
			case !goodKey:
				require.ErrorIs(t, err, sessile.ErrInvalidKey)
			default:
				require.NoError(t, err)
				kept = true
			}
		})
		lists := func(e *sessile.Engine) []string {
			if user == "" || !goodUser {
				return nil
			}
			return sessionsOf(t, e, user)
		}
		life(func(e *sessile.Engine) {
			list := lists(e)
			err := e.View(ctx, id, func(tx sessile.Txn) error {
				v, ok := tx.Get(key)
				require.True(t, ok)
				require.True(t, bytes.Equal(value, v), "%q %q", value, v)
				return nil
			})
			if !kept {
				require.Error(t, err)
				require.Empty(t, list)
				return
			}
			require.NoError(t, err)
			if user != "" {
				require.Equal(t, []string{id}, list)
			}
			require.NoError(t, e.Delete(ctx, id))
		})
		life(func(e *sessile.Engine) { require.Empty(t, lists(e)) })
	})
}
