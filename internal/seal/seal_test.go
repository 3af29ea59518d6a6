package seal

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func secret(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func ring(t testing.TB, keys ...[]byte) *Keyring {
	k, err := New(keys)
	require.NoError(t, err)
	return k
}

func TestSealOpen(t *testing.T) {
	for _, k := range []*Keyring{ring(t), ring(t, secret(1))} {
		for _, plain := range []string{"", "x", "a longer value, of some length"} {
			sealed := k.Seal([]byte("dst"), []byte(plain), []byte("aad"))
			require.Equal(t, "dst", string(sealed[:3]))
			sealed = sealed[3:]
			require.Len(t, sealed, len(plain)+k.Overhead())
			got, err := k.Open([]byte("dst"), sealed, []byte("aad"))
			require.NoError(t, err)
			require.Equal(t, "dst"+plain, string(got))

			_, err = k.Open(nil, sealed, []byte("aae"))
			require.ErrorIs(t, err, ErrDamaged)
			for i := range len(sealed) * 8 {
				bad := bytes.Clone(sealed)
				bad[i/8] ^= 1 << (i % 8)
				_, err := k.Open(nil, bad, []byte("aad"))
				require.Error(t, err, "bit %d", i)
			}
			for n := range sealed {
				_, err := k.Open(nil, sealed[:n], []byte("aad"))
				require.Error(t, err, "cut to %d", n)
			}
		}
	}
}

func TestKeys(t *testing.T) {
	old, both, other, plain := ring(t, secret(1)), ring(t, secret(2), secret(1)), ring(t, secret(3)), ring(t)
	sealed := old.Seal(nil, []byte("v"), nil)
	got, err := both.Open(nil, sealed, nil)
	require.NoError(t, err)
	require.Equal(t, "v", string(got))
	_, err = other.Open(nil, sealed, nil)
	require.ErrorIs(t, err, ErrUnknownKey)
	_, err = plain.Open(nil, sealed, nil)
	require.ErrorIs(t, err, ErrUnknownKey)
	_, err = old.Open(nil, both.Seal(nil, []byte("v"), nil), nil)
	require.ErrorIs(t, err, ErrUnknownKey, "the first key writes")
	_, err = old.Open(nil, plain.Seal(nil, []byte("v"), nil), nil)
	require.ErrorIs(t, err, ErrDamaged, "nobody slips in a plain value")
	_, err = plain.Open(nil, []byte{9, 1, 2, 3, 4, 5}, nil)
	require.ErrorIs(t, err, ErrFormat)

	require.NotEqual(t, old.Seal(nil, []byte("v"), nil), sealed, "each seal has a nonce of its own")
	for _, keys := range [][][]byte{{secret(1)[:31]}, {secret(1), secret(1)}} {
		_, err := New(keys)
		require.Error(t, err)
	}
	require.NotEqual(t, NameHash(secret(1), "ann"), NameHash(secret(2), "ann"))
}

func FuzzOpen(f *testing.F) {
	plain, sealed := ring(f), ring(f, secret(1))
	f.Add(plain.Seal(nil, []byte("v"), []byte("a")))
	f.Add(sealed.Seal(nil, []byte("v"), []byte("a")))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, k := range []*Keyring{plain, sealed} {
			v, err := k.Open(nil, b, []byte("a"))
			if err == nil && len(v) != len(b)-k.Overhead() {
				t.Fatal(len(v), len(b))
			}
		}
	})
}
