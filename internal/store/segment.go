package store

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// A segment is one file of the log. It is written with zeros before it is used, so that a sync of what is put
// over them has no blocks to allocate and no size to change, and is used again when nothing of the log is in it any more.
//
// It holds frames, each at a multiple of a block, so that no write touches a block with an older frame in it:
//
//	magic 4 | length of the value 4 | CRC-32C of the value 4 | bytes since the start of its batch 4
//	length of the key 1 | key, zeros to 31 | tag 16
//	value
//
// A frame stands for itself: nothing says where the frames of a file end, and what is left of older ones after
// them are frames too, of keys that were trimmed. The tag is the start of SHA-256 over the salt of the file, which is its name, and the header
// before the tag: who fills sessions with what looks like frames does not know the salt.
type segment struct {
	path string
	salt []byte
	file *os.File
	size int64
	end  int64 // where the next frame goes; of the one that is written to
	live int   // entries of the log in it
	old  bool  // of an earlier life: read, and never written to again
}

const (
	segmentExt = ".log"
	saltLen    = 16

	frameAlign  = 4096
	frameTagAt  = 48
	frameHead   = frameTagAt + 16
	frameKeyMax = frameTagAt - 17

	// zeroStep is how much is zeroed between two syncs, which commits beside it wait for.
	zeroStep = 1 << 20
)

var (
	frameMagic = [4]byte{'S', 'L', 'o', 'g'}
	frameTable = crc32.MakeTable(crc32.Castagnoli)
	zeros      [zeroStep]byte
)

// frameSize is what a frame takes in a segment.
func frameSize(value int) int64 {
	return (int64(frameHead+value) + frameAlign - 1) / frameAlign * frameAlign
}

func frameTag(salt []byte, h *[frameHead]byte) (tag [frameHead - frameTagAt]byte) {
	var b [saltLen + frameTagAt]byte
	copy(b[:], salt)
	copy(b[saltLen:], h[:frameTagAt])
	sum := sha256.Sum256(b[:])
	copy(tag[:], sum[:])
	return tag
}

// An entry is a key of the log and where its value is.
type entry struct {
	key     string
	seg     *segment
	at      int64 // of the frame
	inBatch int64 // bytes from the start of its batch to it
	size    int   // of the value
	crc     uint32
}

// appendFrame appends the frame of an entry with that value.
func (e entry) appendFrame(dst, value []byte) []byte {
	var h [frameHead]byte
	copy(h[:], frameMagic[:])
	binary.LittleEndian.PutUint32(h[4:], uint32(e.size))
	binary.LittleEndian.PutUint32(h[8:], e.crc)
	binary.LittleEndian.PutUint32(h[12:], uint32(e.inBatch))
	h[16] = byte(len(e.key))
	copy(h[17:frameTagAt], e.key)
	tag := frameTag(e.seg.salt, &h)
	copy(h[frameTagAt:], tag[:])
	dst = append(append(dst, h[:]...), value...)
	return append(dst, zeros[:frameSize(e.size)-frameHead-int64(e.size)]...)
}

// frameAt reads the header of a frame. It reports false where there is none.
func (s *segment) frameAt(at int64) (e entry, ok bool, err error) {
	var h [frameHead]byte
	if at+frameHead > s.size {
		return e, false, nil
	}
	if _, err := s.file.ReadAt(h[:], at); err != nil {
		return e, false, err
	}
	if [4]byte(h[:]) != frameMagic {
		return e, false, nil
	}
	if tag := frameTag(s.salt, &h); tag != [frameHead - frameTagAt]byte(h[frameTagAt:]) {
		return e, false, nil
	}
	e = entry{
		seg: s, at: at,
		size:    int(binary.LittleEndian.Uint32(h[4:])),
		crc:     binary.LittleEndian.Uint32(h[8:]),
		inBatch: int64(binary.LittleEndian.Uint32(h[12:])),
	}
	n := int(h[16])
	if n > frameKeyMax || e.inBatch > at || at+frameHead+int64(e.size) > s.size {
		return e, false, nil
	}
	e.key = string(h[17 : 17+n])
	return e, true, nil
}

// entries returns those of all frames in the file. What is between them, torn, damaged or never written, counts for nothing.
func (s *segment) entries() (all []entry, err error) {
	for at := int64(0); at < s.size; {
		e, ok, err := s.frameAt(at)
		switch {
		case err != nil:
			return nil, err
		case ok:
			all = append(all, e)
			at += frameSize(e.size)
		default:
			at += frameAlign
		}
	}
	return all, nil
}

// value appends an entry's value to dst. It reports false if it is not whole.
func (e entry) value(dst []byte) (v []byte, ok bool, err error) {
	from := len(dst)
	v = append(dst, make([]byte, e.size)...)
	if _, err := e.seg.file.ReadAt(v[from:], e.at+frameHead); err != nil {
		return dst, false, err
	}
	return v, crc32.Checksum(v[from:], frameTable) == e.crc, nil
}

// newSegment makes a segment of zeros that is on disk. It returns ErrFull if there is no room for it, or no descriptor.
func newSegment(dir string, size int64) (s *segment, err error) {
	s = &segment{salt: make([]byte, saltLen), size: size}
	rand.Read(s.salt)
	s.path = filepath.Join(dir, hex.EncodeToString(s.salt)+segmentExt)
	if s.file, err = os.OpenFile(s.path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600); err != nil {
		return nil, fullError(err)
	}
	for at := int64(0); at < size && err == nil; at += zeroStep {
		if _, err = s.file.WriteAt(zeros[:min(zeroStep, size-at)], at); err == nil {
			err = datasync(s.file)
		}
	}
	if err == nil {
		err = s.file.Sync() // its size, too
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return nil, fullError(errors.Join(err, s.remove()))
	}
	return s, nil
}

// openSegment opens one that is there; nil if the name is not that of a segment.
func openSegment(path string) (*segment, error) {
	name, ok := strings.CutSuffix(filepath.Base(path), segmentExt)
	salt, err := hex.DecodeString(name)
	if !ok || err != nil || len(salt) != saltLen {
		return nil, nil
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fullError(err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &segment{path: path, salt: salt, file: file, size: info.Size(), old: true}, nil
}

// rewrite writes what is in the file from one place to another once more: a sync that failed in an
// earlier life may have left in memory alone, and not to be written again, what this one reads.
func (s *segment) rewrite(from, to int64) error {
	b := make([]byte, to-from)
	if _, err := s.file.ReadAt(b, from); err != nil {
		return err
	}
	if _, err := s.file.WriteAt(b, from); err != nil {
		return fullError(err)
	}
	return nil
}

// remove removes the file, if it is still there.
func (s *segment) remove() error {
	_ = s.file.Close() // nothing in it is of use
	if err := os.Remove(s.path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// fullError gives the errors of a full disk, and of too many open files, their name.
func fullError(err error) error {
	for _, full := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE} {
		if errors.Is(err, full) {
			return fmt.Errorf("%w: %w", ErrFull, err)
		}
	}
	return err
}

// syncDir makes the names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fullError(err)
	}
	return errors.Join(d.Sync(), d.Close())
}
