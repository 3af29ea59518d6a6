package latesave_test

import (
	"context"
	"encoding/gob"
	"errors"
	"math"
	"math/big"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/contrib/latesave"
	"github.com/stretchr/testify/require"
)

type point struct {
	X, Y   int
	note   string // gob does not see it
	Labels map[string]int
	Next   *point
}

type named int

// sealed has an encoder of its own, of a pointer.
type sealed struct{ secret string }

func (s *sealed) GobEncode() ([]byte, error) {
	if s.secret == "fail" {
		return nil, errors.New("no")
	}
	return []byte(s.secret), nil
}
func (s *sealed) GobDecode(b []byte) error { s.secret = string(b); return nil }

func init() {
	for _, v := range []any{point{}, named(0), &sealed{}, map[string]any{}, []string{}, big.NewInt(0)} {
		gob.Register(v)
	}
}

func TestEncodeAndDecode(t *testing.T) {
	for _, v := range []any{
		nil, "", "s", []byte{}, []byte("b"), true, false, 0, -1, math.MaxInt, math.MinInt64, int32(-5), int64(7), 0.0, -1.5, math.Inf(1),
		time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), uint8(3), named(4), []any{}, []any{"a", nil, []any{1}},
		map[string]any{"a": 1}, []string{"a"}, point{X: 1, Labels: map[string]int{"a": 1}}, point{Next: &point{X: 2}}, &sealed{"s"}, big.NewInt(1),
	} {
		b, err := latesave.Encode(v)
		require.NoError(t, err)
		got, err := latesave.Decode(b)
		require.NoError(t, err)
		require.Equal(t, v, got)
	}
	for _, v := range []any{struct{ A int }{1}, func() {}, []any{func() {}}, &sealed{"fail"}} {
		_, err := latesave.Encode(v)
		require.Error(t, err)
	}
}

func FuzzDecode(f *testing.F) {
	for _, v := range []any{nil, "s", true, 1, int32(1), int64(1), 1.5, time.Now(), []any{"a", 1}, point{X: 1}} {
		b, err := latesave.Encode(v)
		require.NoError(f, err)
		f.Add(b)
		f.Add(b[:len(b)-1])
	}
	f.Add([]byte{'l', 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := latesave.Decode(b)
		if err != nil || len(b) == 0 || b[0] == 'g' {
			return
		}
		again, err := latesave.Encode(v)
		if err != nil { // a time with a zone that has no encoding, in a list or not
			return
		}
		w, err := latesave.Decode(again)
		require.NoError(t, err)
		require.Equal(t, latesave.Digest(v), latesave.Digest(w))
	})
}

func TestDigest(t *testing.T) {
	loop := &point{}
	loop.Next = loop
	m := map[string]int{"a": 1, "b": 2, "c": 3}
	for name, pair := range map[string][2]any{
		"equal":             {point{X: 1, Labels: map[string]int{"a": 1}}, point{X: 1, Labels: map[string]int{"a": 1}}},
		"through pointers":  {&point{Next: &point{X: 2}}, &point{Next: &point{X: 2}}},
		"order of maps":     {map[string]int{"c": 3, "b": 2, "a": 1}, m},
		"unexported fields": {point{note: "a"}, point{note: "b"}},
		"NaN":               {math.NaN(), math.NaN()},
		"own encoder":       {&sealed{"a"}, &sealed{"a"}},
		"big":               {big.NewInt(5), new(big.Int).SetBytes([]byte{5})},
		"monotonic clock":   {time.Unix(5, 0).UTC(), time.Unix(5, 0).UTC().Round(0)},
	} {
		require.Equal(t, latesave.Digest(pair[0]), latesave.Digest(pair[1]), name)
	}
	all := []any{
		nil, "", "a", []byte("a"), 1, int64(1), named(1), 2, 1.0, true, false, point{}, &point{Y: 1}, point{X: 1}, point{Labels: map[string]int{"a": 1}},
		point{Labels: map[string]int{"a": 2}}, point{Labels: map[string]int{"b": 1}}, point{Next: &point{}}, point{Next: &point{X: 1}},
		[]string{"a", "b"}, []string{"ab"}, []string{"b", "a"}, []any{"a", "b"}, []any{}, map[string]any{"a": "b"}, map[string]any{"b": "a"},
		&sealed{"a"}, &sealed{"b"}, time.Unix(1, 0), time.Unix(2, 0), big.NewInt(1), big.NewInt(2), [2]int{1, 2}, complex(1, 2), uint8(1),
		loop, &sealed{"fail"},
	}
	seen := map[uint64]any{}
	for _, v := range all {
		d := latesave.Digest(v)
		require.NotContains(t, seen, d, "%#v", v)
		seen[d] = v
	}
	require.NotEqual(t, latesave.Digest(loop), latesave.Digest(loop), "what cannot be compared counts as changed")
}

// A request is what one request has loaded of a session with the fields.
func request(t *testing.T, lists bool, e *sessile.Engine) (*latesave.Snapshot, map[string]any) {
	t.Helper()
	s := &latesave.Snapshot{MergeLists: lists}
	values := map[string]any{}
	require.NoError(t, e.View(context.Background(), "s", func(tx sessile.Txn) error {
		for key, raw := range tx.All() {
			v, err := s.Read(key, append([]byte(nil), raw...))
			require.NoError(t, err)
			values[key] = v
		}
		return nil
	}))
	return s, values
}

func save(t *testing.T, e *sessile.Engine, s *latesave.Snapshot, values map[string]any) *latesave.Changes {
	t.Helper()
	c, err := s.Diff(func(yield func(string, any) bool) {
		for k, v := range values {
			if !yield(k, v) {
				return
			}
		}
	})
	require.NoError(t, err)
	require.NoError(t, e.Update(context.Background(), "s", c.Apply))
	return c
}

func TestListsMerge(t *testing.T) {
	list := func(s string) []any {
		var l []any
		for _, x := range strings.Fields(s) {
			l = append(l, x)
		}
		return l
	}
	for name, c := range map[string]struct{ base, one, two, want string }{
		"both append":            {"a", "a b", "a c", "a b c"},
		"both begin":             {"", "b", "c", "b c"},
		"both take all":          {"a b", "", "", ""},
		"take and append":        {"a", "a b", "", "b"},
		"append and take":        {"a", "", "a c", "c"},
		"take one, add one":      {"a b", "a", "a b c", "a c"},
		"take all and add":       {"a", "b", "c", "b c"},
		"equal items":            {"a a", "a", "a a", "a"},
		"one takes from between": {"a b c", "a c", "a b c d", "a c d"},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := sessile.Open(sessile.Options{InMemory: true})
			require.NoError(t, err)
			defer e.Close()
			require.NoError(t, e.CreateID(context.Background(), "s", nil))
			put := func(values map[string]any, s string) {
				if delete(values, "l"); s != "" {
					values["l"] = list(s)
				}
			}
			s, v := request(t, true, e)
			put(v, c.base)
			save(t, e, s, v)
			s1, v1 := request(t, true, e)
			s2, v2 := request(t, true, e)
			put(v1, c.one)
			put(v2, c.two)
			save(t, e, s1, v1)
			after := save(t, e, s2, v2).After
			_, v = request(t, true, e)
			got, _ := v["l"].([]any)
			require.ElementsMatch(t, list(c.want), got)
			if c.want == "" {
				require.NotContains(t, v, "l")
			}

			// What the second request knows now is its own list: saving it again changes nothing.
			require.True(t, save(t, e, after, v2).Empty())
		})
	}
}

// A list that another request has made something else of, or that is not merged, is a value like any other.
func TestListsAsValues(t *testing.T) {
	e, err := sessile.Open(sessile.Options{InMemory: true})
	require.NoError(t, err)
	defer e.Close()
	require.NoError(t, e.CreateID(context.Background(), "s", nil))
	for _, merge := range []bool{false, true} {
		s, v := request(t, merge, e)
		v["l"] = []any{"a"}
		save(t, e, s, v)
		s1, v1 := request(t, merge, e)
		s2, v2 := request(t, merge, e)
		if merge {
			v1["l"] = 7
		} else {
			v1["l"] = []any{"a", "b"}
		}
		v2["l"] = []any{"a", "c"}
		save(t, e, s1, v1)
		save(t, e, s2, v2)
		_, v = request(t, merge, e)
		require.Equal(t, []any{"a", "c"}, v["l"])
	}
}

func TestWeakMap(t *testing.T) {
	var w latesave.WeakMap[byte, string]
	held := map[string]int{}
	w.Store(latesave.MapKey(held), "held")
	for range 1000 {
		w.Store(latesave.MapKey(map[string]int{"a": 1}), "dropped")
	}
	require.Eventually(t, func() bool { runtime.GC(); return w.Len() == 1 }, 10*time.Second, time.Millisecond)
	for n := range 10_000 { // a map stays the same object while it grows, shrinks and is cleared
		held[time.Unix(int64(n), 0).String()] = n
	}
	clear(held)
	require.Equal(t, "held", w.Load(latesave.MapKey(held)))
	require.Equal(t, "held", w.Take(latesave.MapKey(held)))
	require.Empty(t, w.Load(latesave.MapKey(held)))
	require.Empty(t, w.Load(latesave.MapKey(map[string]int{})))
}
