//go:build !invariants

package invariants

// Enabled reports whether the checks are compiled in.
const Enabled = false

// Assert does nothing.
func Assert(bool, string, ...any) {}
