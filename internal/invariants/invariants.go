// Package invariants turns on checks that are too dear for production, under the
// build tag invariants.
package invariants
