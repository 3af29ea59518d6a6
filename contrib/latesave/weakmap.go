package latesave

import (
	"runtime"
	"sync"
	"weak"
)

// A WeakMap holds a value for an object for as long as somebody else holds the object: what a request loaded, for the object
// that its session library carries through the request. The values must not point to their keys. The zero WeakMap is
// empty. It is safe for concurrent use.
//
// Keys are weak pointers, which stay different from those to a later object at the same address.
type WeakMap[K, V any] struct {
	mu sync.Mutex
	m  map[weak.Pointer[K]]V
}

// Load returns the value for the object, the zero V if it has none.
func (w *WeakMap[K, V]) Load(key *K) V {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.m[weak.Make(key)]
}

// Take returns the value for the object, as Load does, and forgets it.
func (w *WeakMap[K, V]) Take(key *K) V {
	w.mu.Lock()
	defer w.mu.Unlock()
	wp := weak.Make(key)
	v := w.m[wp]
	delete(w.m, wp)
	return v
}

// Store gives the object a value. key must point to memory of its own, of at least 16 bytes or with pointers in
// it, since smaller objects share theirs.
func (w *WeakMap[K, V]) Store(key *K, value V) {
	wp := weak.Make(key)
	w.mu.Lock()
	_, had := w.m[wp]
	if w.m == nil {
		w.m = make(map[weak.Pointer[K]]V)
	}
	w.m[wp] = value
	w.mu.Unlock()
	if !had {
		runtime.AddCleanup(key, w.drop, wp)
	}
}

func (w *WeakMap[K, V]) drop(wp weak.Pointer[K]) {
	w.mu.Lock()
	delete(w.m, wp)
	w.mu.Unlock()
}

// Len returns the number of objects.
func (w *WeakMap[K, V]) Len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.m)
}
