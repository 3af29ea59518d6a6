package store

import (
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// A segmentLog keeps the entries of the log in segments. A batch is one write and one sync.
//
// Only what the last batch wrote can be torn by a crash: the one before was on disk when it began. So whoever numbers the
// entries sees from their numbers whether one is missing before another one, which is damage.
//
// Each life writes to segments of its own. In those of earlier ones nothing is changed any more, so what was torn there
// stays so; they are removed when all in them is trimmed.
type segmentLog struct {
	dir   string
	least int64 // size of the first segment

	write sync.Mutex // of append
	// Guarded by write.
	buf    []byte
	failed error // after it nothing is known of the last batch

	mu sync.Mutex
	// Guarded by mu.
	all    []entry       // in the order of their keys
	tail   *segment      // that is written to; set under write, too
	free   []*segment    // nothing of the log is in them
	unused int           // how many of those have been free ever since the last trim
	gone   []*segment    // to be removed
	made   chan struct{} // closed when the segment that is being made is; nil: none is
	closed bool

	making sync.WaitGroup
}

// The first segment has segmentSize, and each next one twice that of the one before, up to segmentGrowth times the first.
const (
	segmentSize   = 4 << 20
	segmentGrowth = 4
)

// openLog opens the log of a directory, which it makes if need be. What is torn in it is not there.
func openLog(dir string, least int64) (*segmentLog, error) {
	l := &segmentLog{dir: dir, least: least}
	if err := os.Mkdir(dir, 0o700); err == nil {
		return l, syncDir(filepath.Dir(dir))
	} else if !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fullError(err)
	}
	for _, file := range files {
		s, err := openSegment(filepath.Join(dir, file.Name()))
		if err == nil && s != nil {
			err = l.adopt(s)
		}
		if err != nil {
			return nil, errors.Join(err, l.close())
		}
	}
	slices.SortFunc(l.all, byKey)
	for i := range l.all[:max(len(l.all)-1, 0)] {
		if l.all[i].key == l.all[i+1].key {
			return nil, errors.Join(fmt.Errorf("%w: the log has entry %x twice", ErrCorrupt, l.all[i].key), l.close())
		}
	}
	if err := l.settle(); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

func byKey(a, b entry) int { return strings.Compare(a.key, b.key) }

// adopt takes what a segment of an earlier life holds. It removes one that holds nothing.
func (l *segmentLog) adopt(s *segment) error {
	all, err := s.entries()
	if err != nil {
		return errors.Join(err, s.file.Close())
	}
	slices.SortFunc(all, byKey)
	var v []byte
	for n := len(all); n > 0; n-- {
		var whole bool
		if v, whole, err = all[n-1].value(v[:0]); err != nil {
			return errors.Join(err, s.file.Close())
		}
		if whole {
			break
		}
		all = all[:n-1] // torn
	}
	if s.live = len(all); s.live == 0 {
		return s.remove()
	}
	l.all = append(l.all, all...)
	return nil
}

// settle makes durable what was read: the last life may have ended before its sync.
func (l *segmentLog) settle() error {
	if len(l.all) == 0 {
		return nil
	}
	last := l.all[len(l.all)-1]
	if err := last.seg.rewrite(last.at-last.inBatch, last.at+frameHead+int64(last.size)); err != nil {
		return err
	}
	for _, s := range l.segments() {
		if err := datasync(s.file); err != nil {
			return err
		}
	}
	return syncDir(l.dir)
}

// segments returns those that entries are in.
func (l *segmentLog) segments() (all []*segment) {
	for _, e := range l.all {
		if len(all) == 0 || all[len(all)-1] != e.seg {
			all = append(all, e.seg)
		}
	}
	slices.SortFunc(all, func(a, b *segment) int { return strings.Compare(a.path, b.path) })
	return slices.Compact(all)
}

// append adds entries to the end of the log.
func (l *segmentLog) append(ops []Op) error {
	l.write.Lock()
	defer l.write.Unlock()
	if l.failed != nil {
		return l.failed
	}
	size := int64(0)
	for _, op := range ops {
		if len(op.Key) > frameKeyMax {
			return fmt.Errorf("%w: key of %d bytes in the log", ErrTooLarge, len(op.Key))
		}
		size += frameSize(len(op.Value))
	}
	s, err := l.room(size)
	if err != nil {
		return err
	}
	l.buf = l.buf[:0]
	added := make([]entry, 0, len(ops))
	for _, op := range ops {
		e := entry{
			key: string(op.Key), seg: s, at: s.end + int64(len(l.buf)), inBatch: int64(len(l.buf)),
			size: len(op.Value), crc: crc32.Checksum(op.Value, frameTable),
		}
		l.buf = e.appendFrame(l.buf, op.Value)
		added = append(added, e)
	}
	if _, err := s.file.WriteAt(l.buf, s.end); err != nil {
		// The blocks are there, but some file systems allocate new ones nevertheless. Nothing counts of what
		// may have been written, and the next batch goes over it.
		if err = fullError(err); !errors.Is(err, ErrFull) {
			l.failed = err
		}
		return err
	}
	if err := datasync(s.file); err != nil {
		l.failed = err
		return err
	}
	s.end += int64(len(l.buf))
	if cap(l.buf) > bufMax {
		l.buf = nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, added...)
	s.live += len(added)
	if s.end > s.size/2 {
		l.prepareLocked(min(2*s.size, segmentGrowth*l.least))
	}
	return nil
}

// bufMax is the largest buffer that is kept for the next batch.
const bufMax = 2 << 20

// room returns the tail, or, where it has no room for a batch of that size, a new one.
func (l *segmentLog) room(size int64) (*segment, error) {
	if l.tail != nil && l.tail.size-l.tail.end >= size {
		return l.tail, nil
	}
	next, err := l.next(size)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tail != nil && l.tail.live == 0 {
		l.free = append(l.free, l.tail)
	}
	l.tail = next
	return next, nil
}

// next returns a segment with room for a batch: a free one, or one that is being made, or a new one.
func (l *segmentLog) next(size int64) (*segment, error) {
	for {
		l.mu.Lock()
		at := slices.IndexFunc(l.free, func(s *segment) bool { return s.size >= size })
		made := l.made
		if at >= 0 {
			s := l.free[at]
			l.free = slices.Delete(l.free, at, at+1)
			l.unused = min(l.unused, len(l.free))
			l.mu.Unlock()
			s.end = 0
			return s, nil
		}
		l.mu.Unlock()
		if made == nil {
			return newSegment(l.dir, max(l.least, size))
		}
		<-made
	}
}

// prepareLocked makes a segment beside the commits, unless there is one.
func (l *segmentLog) prepareLocked(size int64) {
	if len(l.free) > 0 || l.made != nil || l.closed {
		return
	}
	l.made = make(chan struct{})
	l.making.Go(func() {
		s, err := newSegment(l.dir, size)
		l.mu.Lock()
		defer l.mu.Unlock()
		if err == nil { // else who needs one makes it, and has the error
			l.free = append(l.free, s)
		}
		close(l.made)
		l.made = nil
	})
}

// replay calls fn for the entries after a key, in order, until it returns false.
func (l *segmentLog) replay(after []byte, fn func(k, v []byte) bool) error {
	l.mu.Lock()
	at, found := slices.BinarySearchFunc(l.all, string(after), func(e entry, key string) int { return cmp.Compare(e.key, key) })
	if found {
		at++
	}
	all := slices.Clone(l.all[at:])
	l.mu.Unlock()
	var v []byte
	for _, e := range all {
		var ok bool
		var err error
		if v, ok, err = e.value(v[:0]); err != nil {
			return err
		}
		if ok && !fn([]byte(e.key), v) {
			return nil
		}
	}
	return nil
}

// trim ends all entries before a key, and returns how many those were and the bytes of their values. Segments in which nothing
// is left are written to again, but for those that no batch has needed since the last trim. Also with an error the
// entries are trimmed; what could not be removed is tried again by the next trim.
func (l *segmentLog) trim(before []byte) (n int, bytes int64, err error) {
	l.mu.Lock()
	if surplus := min(l.unused, len(l.free)-1); surplus > 0 {
		l.gone = append(l.gone, l.free[:surplus]...)
		l.free = slices.Delete(l.free, 0, surplus)
	}
	for ; n < len(l.all) && l.all[n].key < string(before); n++ {
		e := l.all[n]
		bytes += int64(e.size)
		if e.seg.live--; e.seg.live > 0 || e.seg == l.tail {
			continue
		}
		if e.seg.old {
			l.gone = append(l.gone, e.seg)
		} else {
			l.free = append(l.free, e.seg)
		}
	}
	l.all = slices.Delete(l.all, 0, n)
	l.unused = len(l.free)
	gone := l.gone
	l.mu.Unlock()
	if len(gone) == 0 {
		return n, bytes, nil
	}
	for _, s := range gone {
		if err := s.remove(); err != nil {
			return n, bytes, fullError(err)
		}
	}
	if err := syncDir(l.dir); err != nil {
		return n, bytes, err
	}
	l.mu.Lock()
	l.gone = l.gone[len(gone):] // trims do not overlap
	l.mu.Unlock()
	return n, bytes, nil
}

// close closes the files, and removes those that nothing of the log is in.
func (l *segmentLog) close() (err error) {
	l.write.Lock()
	defer l.write.Unlock()
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.making.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	left := l.segments()
	for _, s := range left {
		err = errors.Join(err, s.file.Close())
	}
	if l.tail != nil && !slices.Contains(left, l.tail) {
		if l.failed == nil {
			l.free = append(l.free, l.tail)
		} else { // what is in it is not known
			err = errors.Join(err, l.tail.file.Close())
		}
	}
	for _, s := range append(l.free, l.gone...) {
		err = errors.Join(err, s.remove())
	}
	l.all, l.free, l.gone, l.tail = nil, nil, nil, nil
	return err
}
