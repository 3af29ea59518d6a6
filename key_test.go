package sessile_test

import (
	"encoding/binary"
	"errors"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/stretchr/testify/require"
)

type (
	cents  int64
	name   string
	small  uint8
	bitmap []byte
	point  struct{ X, Y int }
)

// A version encodes itself.
type version struct{ major, minor byte }

func (v version) AppendBinary(b []byte) ([]byte, error) { return append(b, v.major, v.minor), nil }

func (v *version) UnmarshalBinary(b []byte) error {
	if len(b) != 2 {
		return errors.New("version wants 2 bytes")
	}
	v.major, v.minor = b[0], b[1]
	return nil
}

// roundTrip stores values under a key of their type, in one transaction and
// across two, and wants them back.
func roundTrip[T any](t *testing.T, e *sessile.Engine, id string, values ...T) {
	t.Helper()
	k := sessile.NewKey[T]("roundTrip")
	for _, v := range values {
		require.NoError(t, e.Update(ctx, id, func(tx sessile.Txn) error {
			require.NoError(t, k.Set(tx, v))
			got, ok, err := k.Lookup(tx)
			require.NoError(t, err)
			require.True(t, ok)
			require.Equal(t, v, got)
			return nil
		}))
		got, err := sessile.Read(ctx, e.Session(id), k)
		require.NoError(t, err)
		require.Equal(t, v, got)
	}
	require.NoError(t, e.Update(ctx, id, func(tx sessile.Txn) error {
		v, ok, err := k.Pop(tx)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, values[len(values)-1], v)
		_, ok, err = k.Pop(tx)
		require.False(t, ok)
		return err
	}))
}

func TestKeyRoundTrips(t *testing.T) {
	e := open(t, sessile.Options{InMemory: true})
	id := create(t, e, nil)
	roundTrip(t, e, id, 0, 1, -1, math.MaxInt, math.MinInt)
	roundTrip[int8](t, e, id, math.MinInt8, math.MaxInt8)
	roundTrip[int16](t, e, id, math.MinInt16, math.MaxInt16)
	roundTrip[int32](t, e, id, math.MinInt32, math.MaxInt32)
	roundTrip[uint](t, e, id, 0, math.MaxUint)
	roundTrip[uint8](t, e, id, 0, math.MaxUint8)
	roundTrip[uint16](t, e, id, math.MaxUint16)
	roundTrip[uint32](t, e, id, math.MaxUint32)
	roundTrip[uint64](t, e, id, math.MaxInt64, math.MaxInt64+1, math.MaxUint64)
	roundTrip(t, e, id, cents(-5), cents(math.MaxInt64))
	roundTrip(t, e, id, small(200))
	roundTrip(t, e, id, "", "text", strings.Repeat("long", 1000))
	roundTrip(t, e, id, name("ann"))
	roundTrip(t, e, id, []byte("bytes"), []byte{})
	roundTrip(t, e, id, bitmap{1, 2})
	roundTrip(t, e, id, true, false)
	roundTrip(t, e, id, 0.1, math.Inf(-1), math.MaxFloat64)
	roundTrip[float32](t, e, id, 0.1, math.MaxFloat32)
	roundTrip(t, e, id, time.Unix(1e9, 5).UTC(), time.Time{}, time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600)))
	roundTrip(t, e, id, version{1, 2})
	roundTrip(t, e, id, netip.MustParseAddr("::1"))
	roundTrip(t, e, id, point{1, 2})
	roundTrip(t, e, id, map[string]int{"a": 1}, map[string]int(nil))
	roundTrip(t, e, id, []string{"a"})
}

func TestKeyMismatch(t *testing.T) {
	e := open(t, sessile.Options{InMemory: true})
	id := create(t, e, func(tx sessile.Txn) error {
		require.NoError(t, sessile.NewKey[int]("k").Set(tx, 300))
		require.NoError(t, tx.Set("raw", []byte{200, 1}))
		return tx.Set("empty", nil)
	})
	require.NoError(t, e.Update(ctx, id, func(tx sessile.Txn) error {
		wide, err := sessile.NewKey[int64]("k").Get(tx)
		require.NoError(t, err, "an int may become an int64")
		require.EqualValues(t, 300, wide)
		_, err = sessile.NewKey[uint8]("k").Get(tx)
		require.ErrorContains(t, err, `"k" as uint8`)
		_, err = sessile.NewKey[string]("k").Get(tx)
		require.ErrorContains(t, err, "stored as integer, want string")
		_, err = sessile.NewKey[point]("k").Get(tx)
		require.ErrorContains(t, err, "sessile_test.point")
		for _, key := range []string{"raw", "empty"} {
			_, err = sessile.NewKey[int](key).Get(tx)
			require.Error(t, err)
		}
		called := false
		require.Error(t, sessile.NewKey[string]("k").Modify(tx, func(*string) error { called = true; return nil }))
		require.False(t, called)
		require.NoError(t, sessile.NewKey[string]("k").Set(tx, "new"), "Set does not look at the old value")
		require.NoError(t, sessile.NewKey[point]("raw").Delete(tx))

		bad := sessile.NewKey[int]("")
		require.ErrorIs(t, bad.Set(tx, 1), sessile.ErrInvalidKey)
		_, err = bad.Get(tx)
		require.ErrorIs(t, err, sessile.ErrInvalidKey)
		var zero sessile.Key[point]
		require.ErrorIs(t, zero.Set(tx, point{}), sessile.ErrInvalidKey)
		return nil
	}))
}

func TestOnDecodeError(t *testing.T) {
	cause := errors.New("cause")
	var decide error
	e := open(t, sessile.Options{InMemory: true, OnDecodeError: func(id, key string, value []byte, err error) error {
		require.Equal(t, "a", id)
		require.Equal(t, "k", key)
		require.Equal(t, []byte{99}, value)
		require.Error(t, err)
		return decide
	}})
	require.NoError(t, e.CreateID(ctx, "a", func(tx sessile.Txn) error { return tx.Set("k", []byte{99}) }))
	k := sessile.NewKey[int]("k")
	v, err := sessile.Read(ctx, e.Session("a"), k)
	require.NoError(t, err)
	require.Zero(t, v, "it counts as absent")
	decide = cause
	_, err = sessile.Read(ctx, e.Session("a"), k)
	require.ErrorIs(t, err, cause)
}

func TestAdd(t *testing.T) {
	e := open(t, sessile.Options{InMemory: true})
	id := create(t, e, nil)
	k, u := sessile.NewKey[int8]("k"), sessile.NewKey[uint8]("u")
	require.NoError(t, e.Update(ctx, id, func(tx sessile.Txn) error {
		v, err := sessile.Add(tx, k, 100)
		require.NoError(t, err)
		require.EqualValues(t, 100, v)
		_, err = sessile.Add(tx, k, 100)
		require.ErrorIs(t, err, sessile.ErrOverflow)
		_, err = sessile.Add(tx, k, -128)
		require.NoError(t, err)
		_, err = sessile.Add(tx, k, -128)
		require.ErrorIs(t, err, sessile.ErrOverflow)
		_, err = sessile.Add(tx, u, 250)
		require.NoError(t, err)
		_, err = sessile.Add(tx, u, 6)
		require.ErrorIs(t, err, sessile.ErrOverflow)
		v, err = k.Get(tx)
		require.EqualValues(t, -28, v)
		return err
	}))
	require.ErrorIs(t, e.View(ctx, id, func(tx sessile.Txn) error { _, err := sessile.Add(tx, k, 1); return err }), sessile.ErrReadOnly)
}

// An int64 that is there is added to without Get and Set, with the same results.
func TestAddToWhatIsThere(t *testing.T) {
	eachMode(t, sessile.Options{}, func(t *testing.T, e *sessile.Engine) {
		k, other, f := sessile.NewKey[int64]("k"), sessile.NewKey[int64]("other"), sessile.NewKey[float64]("k")
		id := create(t, e, func(tx sessile.Txn) error { return errors.Join(k.Set(tx, 5), other.Set(tx, 1)) })
		add := func(tx sessile.Txn, delta, want int64) {
			v, err := sessile.Add(tx, k, delta)
			require.NoError(t, err)
			require.Equal(t, want, v)
			v, err = k.Get(tx)
			require.NoError(t, err)
			require.Equal(t, want, v)
		}
		update := func(fn func(tx sessile.Txn)) {
			require.NoError(t, e.Update(ctx, id, func(tx sessile.Txn) error { fn(tx); return nil }))
		}
		var late sessile.Txn
		update(func(tx sessile.Txn) { add(tx, 2, 7); late = tx })
		_, err := sessile.Add(late, k, 1)
		require.ErrorIs(t, err, sessile.ErrTxnDone)
		require.ErrorIs(t, e.View(ctx, id, func(tx sessile.Txn) error { _, err := sessile.Add(tx, k, 1); return err }), sessile.ErrReadOnly)
		update(func(tx sessile.Txn) { add(tx, 0, 7); add(tx, -8, -1); add(tx, 1, 0) })
		update(func(tx sessile.Txn) {
			require.NoError(t, other.Set(tx, 2))
			add(tx, 3, 3)
			v, err := other.Get(tx)
			require.NoError(t, err)
			require.EqualValues(t, 2, v)
		})
		for _, far := range []int64{math.MaxInt64, math.MinInt64} {
			update(func(tx sessile.Txn) { require.NoError(t, k.Set(tx, far)) })
			update(func(tx sessile.Txn) {
				v, err := sessile.Add(tx, k, 1|far>>63)
				require.ErrorIs(t, err, sessile.ErrOverflow)
				require.Equal(t, far, v)
				require.Zero(t, tx.Changes())
				add(tx, -(1 | far>>63), far-(1|far>>63))
			})
		}
		update(func(tx sessile.Txn) { require.NoError(t, f.Set(tx, 1)) })
		update(func(tx sessile.Txn) {
			_, err := sessile.Add(tx, k, 1)
			require.ErrorContains(t, err, "stored as float")
		})
		v, err := sessile.Read(ctx, e.Session(id), f)
		require.NoError(t, err)
		require.EqualValues(t, 1, v)
	})
}

// No stored bytes, whoever wrote them, make reading panic.
func FuzzKey(f *testing.F) {
	f.Add([]byte{4, 1, 0, 0, 0, 0, 0, 0, 0})
	f.Add(binary.LittleEndian.AppendUint64([]byte{6}, 1e9))
	f.Add([]byte(`` + "\x08" + `{"X":1}`))
	f.Add([]byte{7, 1, 2})
	for tag := range byte(10) {
		f.Add([]byte{tag})
		f.Add([]byte{tag, 1})
	}
	e, err := sessile.Open(sessile.Options{InMemory: true})
	require.NoError(f, err)
	require.NoError(f, e.CreateID(ctx, "a", nil))
	f.Fuzz(func(t *testing.T, value []byte) {
		if len(value) > 1000 {
			return
		}
		require.NoError(t, e.Update(ctx, "a", func(tx sessile.Txn) error {
			require.NoError(t, tx.Set("k", value))
			_, _ = sessile.NewKey[int]("k").Get(tx)
			_, _ = sessile.NewKey[uint8]("k").Get(tx)
			_, _ = sessile.NewKey[string]("k").Get(tx)
			_, _ = sessile.NewKey[[]byte]("k").Get(tx)
			_, _ = sessile.NewKey[bool]("k").Get(tx)
			_, _ = sessile.NewKey[float32]("k").Get(tx)
			_, _ = sessile.NewKey[time.Time]("k").Get(tx)
			_, _ = sessile.NewKey[version]("k").Get(tx)
			_, _ = sessile.NewKey[point]("k").Get(tx)
			return nil
		}))
	})
}
