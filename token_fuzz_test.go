package sessile_test

import (
	"strings"
	"testing"

	"github.com/sessile-go/sessile"
	"github.com/stretchr/testify/require"
)

// No string but the very token gives access, whatever it looks like.
func FuzzToken(f *testing.F) {
	e, err := sessile.Open(sessile.Options{InMemory: true})
	require.NoError(f, err)
	var token string
	require.NoError(f, e.CreateID(ctx, "id", func(tx sessile.Txn) (err error) {
		token, err = tx.NewToken(sessile.TokenLogin)
		return err
	}))
	f.Add("", uint8(0), byte(0))
	f.Add("id."+strings.Repeat("A", 43), uint8(2), byte('.'^':'))
	f.Add("."+strings.Repeat("A", 43), uint8(len(token)-1), byte(1))
	f.Add(strings.Repeat("i", 257)+"."+strings.Repeat("A", 43), uint8(0), byte(0x80))
	f.Fuzz(func(t *testing.T, any string, at uint8, xor byte) {
		if any != token {
			_, err := e.Resolve(ctx, any)
			require.ErrorIs(t, err, sessile.ErrNoToken)
		}
		b := []byte(token)
		b[int(at)%len(b)] ^= xor
		grant, err := e.Resolve(ctx, string(b))
		if xor != 0 {
			require.ErrorIs(t, err, sessile.ErrNoToken)
			return
		}
		require.NoError(t, err)
		require.Equal(t, sessile.Grant{ID: "id", Epoch: 1}, grant)
	})
}
