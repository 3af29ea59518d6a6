package latesave

import "reflect"

// MapKey returns what stands for a map in a [WeakMap]. A map is a reference to one object, which stays the same
// while its entries come and go. The pointer is for comparing only.
func MapKey[K comparable, V any](m map[K]V) *byte {
	return (*byte)(reflect.ValueOf(m).UnsafePointer())
}
