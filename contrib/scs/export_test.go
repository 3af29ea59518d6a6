package scsstore

import "testing"

// Loads returns how many loads the store remembers.
func (s *Store) Loads() int {
	s.loads.mu.Lock()
	defer s.loads.mu.Unlock()
	return len(s.loads.byNumber) + s.loads.byMap.Len()
}

// Endings returns what the store remembers of ended sessions.
func (s *Store) Endings() (n, bytes int) {
	s.ends.mu.Lock()
	defer s.ends.mu.Unlock()
	return len(s.ends.m), s.ends.bytes
}

// The limits.
const (
	EndingsMax     = endingsMax
	EndingBytesMax = endingBytesMax
	EndingAge      = endingAge
)

// EndingWins says, for a session ended by the first of the calls of Delete, given by their requests' Done channels, whether
// the request with the last one may move it.
func EndingWins(t *testing.T, done <-chan struct{}, calls ...<-chan struct{}) bool {
	t.Helper()
	var e endings
	for i, c := range calls {
		call := e.begin("id", c)
		if i == 0 {
			e.won(call, remains{})
		}
	}
	_, ok := e.of("id", done)
	return ok
}
