//go:build invariants

package invariants

import "fmt"

// Enabled reports whether the checks are compiled in.
const Enabled = true

// Assert panics with the message if the condition does not hold.
func Assert(ok bool, format string, args ...any) {
	if !ok {
		panic("invariant violated: " + fmt.Sprintf(format, args...))
	}
}
