// Package peers puts Sessile and what a Go developer would otherwise use behind one small
// interface, with the same sessions in each.
package peers

import (
	"encoding/binary"
	"errors"
	"strings"
	"time"
)

// A Peer holds sessions. Its methods are safe for concurrent use but for Fill and Close.
//
// A session has two counters, which every change raises together, and text. So a change
// that was acknowledged and is not in the sum at the end was lost, and a read that finds the
// counters different was torn.
type Peer interface {
	// Fill stores new sessions with counters at 0, in bulk, as fast as the peer can.
	Fill(ids []string) error
	// Read returns both counters.
	Read(id string) (Pair, error)
	// Change adds 1 to both counters, in a transaction if the peer has them, otherwise by
	// load, change and save, as its users do. With whole it reads all fields of the session before.
	Change(id string, whole bool) error
	// Create stores one new session with counters at 0.
	Create(id string) error
	// Delete ends one session. It is called only of peers that expire nothing by themselves.
	Delete(id string) error
	// Close releases everything.
	Close() error
}

// A Summer can add up counters faster than by one Read after another.
type Summer interface {
	Sum(ids []string) (int64, error)
}

// A Pair is the two counters of a session.
type Pair struct{ A, B int64 }

// A Regime says when a change is acknowledged. Rows of different regimes must not be compared.
type Regime string

// The regimes.
const (
	Memory      Regime = "memory"       // nothing survives the process
	WriteBehind Regime = "write-behind" // acknowledged in memory, on disk soon after
	Durable     Regime = "durable"      // acknowledged when it is on disk
)

// A Config is what a peer is opened with.
type Config struct {
	Regime    Regime
	Dir       string        // an empty directory of the peer's own
	Size      int           // bytes of a session's keys and values
	Callers   int           // goroutines that will call
	MaxMemory int64         // bytes for hot sessions or caches; 0: ample
	TTL       time.Duration // how long a session lives unused; 0: for ever
	// Checkpoint is Sessile's CheckpointInterval; 0: its default.
	Checkpoint time.Duration
}

// A Kind is a peer that can be opened.
type Kind struct {
	Name    string
	Module  string // whose version the report names
	Expires bool   // ends sessions after Config.TTL by itself
	// InMemory: keeps all sessions in memory, so it has no row where there are more than that.
	InMemory bool
	// LoadsAndSaves: a change is not a transaction, so overlapping ones are lost.
	LoadsAndSaves bool
	// WriteOnly: has no sessions to read.
	WriteOnly bool
	Notes     map[Regime]string // how it is configured; a regime without a note is not offered
	Open      func(Config) (Peer, error)
}

// ErrUnavailable is returned by Open when something outside Go is missing.
var ErrUnavailable = errors.New("not available")

// Kinds returns the peers of a regime, Sessile first.
func Kinds(r Regime) []Kind {
	var kinds []Kind
	for _, k := range []Kind{
		sessileKind, xsyncKind, scsKind, gorillaKind, memdbKind, buntdbKind,
		badgerKind, pebbleKind, bboltKind, redisScriptKind, redisPlainKind, fdatasyncKind,
	} {
		if k.Notes[r] != "" {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// Find returns the kind of a name.
func Find(r Regime, name string) (Kind, bool) {
	for _, k := range Kinds(r) {
		if k.Name == name {
			return k, true
		}
	}
	return Kind{}, false
}

// The fields of a session beside its counters a and b.
const (
	csrfSize = 33
	nameSize = 20
)

// fields returns the text fields of a session of size bytes in all, keys included.
func fields(size int) (csrf, name, profile string) {
	keys := len("a") + len("b") + len("csrf") + len("name") + len("profile")
	rest := max(1, size-keys-2*8-csrfSize-nameSize)
	return strings.Repeat("c", csrfSize), strings.Repeat("n", nameSize), strings.Repeat("p", rest)
}

// A blob is a session for peers that hold bytes: the counters, and text up to the size. That
// spares them an encoding.

func newBlob(size int) []byte {
	b := make([]byte, max(size, 17))
	for i := 16; i < len(b); i++ {
		b[i] = 'p'
	}
	return b
}

func pairOf(blob []byte) Pair {
	return Pair{int64(binary.LittleEndian.Uint64(blob)), int64(binary.LittleEndian.Uint64(blob[8:]))}
}

// raise adds 1 to both counters.
func raise(blob []byte) {
	p := pairOf(blob)
	binary.LittleEndian.PutUint64(blob, uint64(p.A+1))
	binary.LittleEndian.PutUint64(blob[8:], uint64(p.B+1))
}

var errMissing = errors.New("session is missing")

// An Adder raises the first counter alone, the way Change does both.
type Adder interface {
	Add(id string) error
}
