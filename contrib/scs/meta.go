package scsstore

import (
	"encoding/binary"
	"time"

	"github.com/sessile-go/sessile"
)

// meta is what scs's sessions have beside values, in the field keyMeta: the deadline, exactly as the manager set
// it, and the idle timeout, which is seen in the expiry of commits only.
type meta struct {
	deadline time.Time
	idle     time.Duration // 0: none
}

const metaLen = 8 + 4 + 8

func (m meta) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(m.deadline.Unix()))
	b = binary.LittleEndian.AppendUint32(b, uint32(m.deadline.Nanosecond()))
	return binary.LittleEndian.AppendUint64(b, uint64(m.idle))
}

func cutMeta(b []byte) (m meta, rest []byte, ok bool) {
	if len(b) < metaLen {
		return meta{}, nil, false
	}
	sec, nsec := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:])
	m.deadline = time.Unix(int64(sec), int64(nsec)).UTC()
	m.idle = time.Duration(binary.LittleEndian.Uint64(b[12:]))
	return m, b[metaLen:], true
}

func readMeta(tx sessile.Txn) (meta, bool) {
	b, _ := tx.Peek(keyMeta)
	m, _, ok := cutMeta(b)
	return m, ok
}

// stage sets the session's expiry.
func (m meta) stage(tx sessile.Txn) error {
	if err := tx.Set(keyMeta, m.append(nil)); err != nil {
		return err
	}
	at := m.deadline
	if at.IsZero() {
		at = time.UnixMilli(0) // long past, where the zero time would clear the deadline
	}
	if err := tx.SetDeadline(at); err != nil {
		return err
	}
	if m.idle == 0 {
		return tx.SetIdleTimeout(sessile.NoTimeout)
	}
	return tx.SetIdleTimeout(max(m.idle, idleMin))
}

const (
	idleMin   = 10 * time.Millisecond // the engine's
	idleSlack = time.Second
)

// idleTimeout finds the manager's IdleTimeout in the expiry of a commit, which is the earlier of the deadline and the commit's
// time plus the timeout. The measured value is a little short, by the time that the commit took so far, so an old value
// that it agrees with stays, and a request that only reads writes nothing.
func idleTimeout(old time.Duration, now, expiry, deadline time.Time) time.Duration {
	left := deadline.Sub(now)
	if expiry.Before(deadline) {
		seen := expiry.Sub(now)
		if d := old - seen; old > 0 && d > -idleSlack && d < max(idleSlack, old/16) {
			return old
		}
		return max(seen, idleMin)
	}
	if old > 0 && left > old+idleSlack {
		return 0 // it would have come first, so the manager has none any more
	}
	return old
}
