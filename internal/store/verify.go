package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/badger/v4/y"
	"google.golang.org/protobuf/proto"
)

// Badger, when it opens damaged files, may take damage for the torn tail that a power cut leaves,
// drop it, and delete the tables that it then knows nothing of; and it ends the process when
// the lengths in a table point out of it. So the files are looked at before, and Badger is
// told not to read the tables a second time.
//
// The formats are those of Badger v4; its own documentation of them is in
// table/builder.go, manifest.go and memtable.go.

// verifyLocked is verify unless the directory is in use.
func verifyLocked(dir string) error {
	unlock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := dropEmpty(dir); err != nil {
		return err
	}
	return verify(dir)
}

// dropEmpty removes logs without a byte. Badger was killed between making and sizing them, or between emptying
// and removing them, and takes them for an error at each Open from then on. One that somebody else has emptied
// looks the same; when the engine was closed before, its mark tells.
func dropEmpty(dir string) error {
	for _, pattern := range []string{"*.mem", "*.vlog"} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		for _, path := range paths {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			if info.Size() > 0 {
				continue
			}
			if err := os.Remove(path); err != nil {
				return err
			}
		}
	}
	return nil
}

// verify returns ErrCorrupt if a file of the directory is not as Badger wrote it. A
// tail that can have been torn is left to Badger.
func verify(dir string) error {
	tables, err := verifyManifest(dir)
	if err != nil {
		return err
	}
	logs, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	if err != nil {
		return err
	}
	for _, path := range logs {
		if err := verifyLog(path); err != nil {
			return err
		}
	}
	return verifyTables(dir, tables)
}

func corrupt(path string, at int, format string, a ...any) error {
	return fmt.Errorf("%w: %s: byte %d: %s", ErrCorrupt, filepath.Base(path), at, fmt.Sprintf(format, a...))
}

// verifyManifest returns the tables that the manifest names.
//
// A change set in it has a header, length and CRC, 4 bytes each, which Badger only takes at its
// word: with a length that reaches beyond the end of the file it is a torn one. It is not if some other
// length makes the CRC right.
func verifyManifest(dir string) (map[uint64]badger.TableManifest, error) {
	path := filepath.Join(dir, badger.ManifestFilename)
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		// Badger makes it before anything else, and deletes what it doesn't name.
		for _, pattern := range []string{"*.sst", "*.mem"} {
			if there, err := filepath.Glob(filepath.Join(dir, pattern)); err != nil || len(there) > 0 {
				return nil, fmt.Errorf("%w: %s is missing, but not %s: %w", ErrCorrupt, badger.ManifestFilename, filepath.Base(there[0]), errors.Join(os.ErrNotExist, err))
			}
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	manifest, end, err := badger.ReplayManifestFile(file, 0, badger.DefaultOptions(dir).WithLogger(nil))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, filepath.Base(path), err)
	}
	if _, err := file.Seek(end, io.SeekStart); err != nil {
		return nil, err
	}
	tail, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	if len(tail) > 8 {
		says, want, crc := binary.BigEndian.Uint32(tail), binary.BigEndian.Uint32(tail[4:]), uint32(0)
		if want == crc && wholeChangeSet(tail[8:]) { // an empty one, which new manifests begin with
			return nil, corrupt(path, int(end), "a change set of 0 bytes says that it has %d", says)
		}
		for i, b := range tail[8:] {
			if crc = crc32.Update(crc, y.CastagnoliCrcTable, []byte{b}); crc == want {
				return nil, corrupt(path, int(end), "a change set of %d bytes says that it has %d", i+1, says)
			}
		}
	}
	return manifest.Tables, nil
}

// wholeChangeSet reports whether b begins with a change set.
func wholeChangeSet(b []byte) bool {
	if len(b) < 8 {
		return false
	}
	n, want := uint64(binary.BigEndian.Uint32(b)), binary.BigEndian.Uint32(b[4:])
	b = b[8:]
	return n <= uint64(len(b)) && crc32.Checksum(b[:n], y.CastagnoliCrcTable) == want
}

// verifyTables checks each byte of the tables against the checksums in them.
func verifyTables(dir string, tables map[uint64]badger.TableManifest) error {
	ids := make(chan uint64)
	errs := make(chan error, 1)
	var workers sync.WaitGroup
	for range min(4, len(tables)) {
		workers.Go(func() {
			var v tableVerifier
			for id := range ids {
				if err := v.verifyFile(table.NewFilename(id, dir), tables[id]); err != nil {
					select {
					case errs <- err:
					default: // one is enough
					}
				}
			}
		})
	}
	for id := range tables {
		ids <- id
	}
	close(ids)
	workers.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// A tableVerifier verifies one table after another.
type tableVerifier struct{ index, blocks window }

// verifyFile verifies the table in a file, which must be there.
func (v *tableVerifier) verifyFile(path string, info badger.TableManifest) error {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if err != nil {
		return err
	}
	defer file.Close()
	stat, err := file.Stat()
	if err != nil {
		return err
	}
	return v.verify(path, file, int(stat.Size()), info)
}

// verify takes a table apart from its end:
//
//	blocks | index | length of the index 4 | checksum of the index | length of the checksum 4
//
// and each block in the same way: what it covers ends in the number of entries.
func (v *tableVerifier) verify(path string, file io.ReaderAt, size int, info badger.TableManifest) error {
	if info.Compression != options.None || info.KeyID != 0 {
		return corrupt(path, 0, "not a table of this store: compression %d, key %d", info.Compression, info.KeyID)
	}
	v.index.open(file, size)
	v.blocks.open(file, size)
	tail, err := v.index.read(max(0, size-windowSize), size)
	if err != nil {
		return err
	}
	rest, err := checksum(path, tail, size)
	if err != nil {
		return err
	}
	end := size - len(tail) + rest.end // of the index
	start := end - rest.length
	if start < 0 || rest.length < 8 {
		return corrupt(path, end, "index of %d bytes", rest.length)
	}
	index, err := v.index.read(start, end)
	if err != nil {
		return err
	}
	if err := rest.check(index); err != nil {
		return corrupt(path, start, "index: %v", err)
	}
	return v.verifyBlocks(path, index, start)
}

// verifyBlocks verifies the blocks of an index, which begins at the offset end.
func (v *tableVerifier) verifyBlocks(path string, index []byte, end int) error {
	blocks := fb.GetRootAsTableIndex(index, 0)
	if blocks.OffsetsLength() == 0 {
		return corrupt(path, end, "no blocks")
	}
	for i := range blocks.OffsetsLength() {
		var at fb.BlockOffset
		if !blocks.Offsets(&at, i) {
			return corrupt(path, end, "block %d is not in the index", i)
		}
		from, to := int(at.Offset()), int(at.Offset())+int(at.Len())
		if from > to || to > end {
			return corrupt(path, from, "block of %d bytes", at.Len())
		}
		b, err := v.blocks.read(from, to)
		if err != nil {
			return err
		}
		sum, err := checksum(path, b, to)
		if err != nil {
			return err
		}
		// The checksum of a block covers the number of its entries as well.
		if err := sum.check(b[:sum.end+4]); err != nil {
			return corrupt(path, from, "block: %v", err)
		}
		if uint64(sum.length)*4 > uint64(sum.end) {
			return corrupt(path, from, "block of %d entries", sum.length)
		}
	}
	return nil
}

// A window reads a file in pieces, so that what is checked is still in the processor's cache.
type window struct {
	file io.ReaderAt
	size int // of the file
	buf  []byte
	at   int // where in the file buf begins
}

const windowSize = 256 << 10

// open begins with a file, in the memory of the last one.
func (w *window) open(file io.ReaderAt, size int) {
	*w = window{file: file, size: size, buf: w.buf[:0]}
}

// read returns the bytes from start to end, which must be in the file, until the next call.
func (w *window) read(start, end int) ([]byte, error) {
	if start < w.at || end > w.at+len(w.buf) {
		n := min(max(end-start, windowSize), w.size-start)
		w.buf, w.at = slices.Grow(w.buf[:0], n)[:n], start
		if n, err := w.file.ReadAt(w.buf, int64(start)); n < len(w.buf) {
			w.buf = w.buf[:0]
			return nil, err
		}
	}
	return w.buf[start-w.at : end-w.at], nil
}

// A sum is what stands at the end of a table and of each of its blocks.
type sum struct {
	pb.Checksum
	end    int // of what is before length
	length int // the number before the checksum
}

// checksum parses the end of b, which lies before the offset at of the file.
func checksum(path string, b []byte, at int) (*sum, error) {
	if len(b) < 8 {
		return nil, corrupt(path, at, "cut short")
	}
	n := int64(binary.BigEndian.Uint32(b[len(b)-4:]))
	if n > int64(len(b)-8) {
		return nil, corrupt(path, at-4, "checksum of %d bytes", n)
	}
	start := len(b) - 4 - int(n)
	s := &sum{end: start - 4, length: int(binary.BigEndian.Uint32(b[start-4:]))}
	if err := proto.Unmarshal(b[start:len(b)-4], &s.Checksum); err != nil {
		return nil, corrupt(path, at-4-int(n), "checksum: %v", err)
	}
	return s, nil
}

func (s *sum) check(b []byte) error {
	switch s.Algo {
	case pb.Checksum_CRC32C, pb.Checksum_XXHash64:
		return y.VerifyChecksum(b, &s.Checksum)
	}
	return fmt.Errorf("checksum of kind %d", s.Algo) // Badger panics
}

// verifyLog looks at the log of a memtable. Badger takes what follows the last whole transaction for torn
// and cuts it off. With SyncWrites each transaction is on disk before
// the next one is written, so only one can be torn: whole entries of two of them
// behind the last one that is whole are not what a crash leaves.
func verifyLog(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	at := min(logHeader, len(b))
	torn := uint64(0) // the transaction that is not complete; 0: none
	for {
		e, ok := parseEntry(b[at:])
		if !ok || torn != 0 && e.txn != torn {
			break
		}
		at += e.size
		if torn = e.txn; e.last {
			torn = 0
		}
	}
	end := len(bytes.TrimRight(b, "\x00"))
	for i := at; i < end; i++ {
		// Only entries that follow each other to the end count: inside of a torn one there may
		// be anything, also what looks like entries.
		first, many, j := torn, false, i
		for j < end {
			e, ok := parseEntry(b[j:])
			if !ok {
				break
			}
			many = many || first != 0 && e.txn != first
			first, j = e.txn, j+e.size
		}
		if many && j >= end {
			return corrupt(path, at, "what is at byte %d was written later", i)
		}
	}
	return nil
}

const (
	logHeader = 20 // key id and initialization vector, for Badger's own encryption

	metaTxn    = 1 << 6 // an entry of a transaction
	metaFinTxn = 1 << 7 // the one that ends it
)

// A logEntry is
//
//	meta 1 | user meta 1 | key length, value length, expiry: uvarint | key | value | CRC 4
//
// where the last 8 bytes of the key are the complement of the transaction's timestamp. The entry that ends a transaction
// has the timestamp as its value, in decimal.
type logEntry struct {
	size int
	txn  uint64
	last bool
}

// parseEntry parses the entry at the start of b and reports whether it is whole.
func parseEntry(b []byte) (e logEntry, ok bool) {
	if len(b) < 2 || b[0]&(metaTxn|metaFinTxn) == 0 || b[1] != 0 {
		return e, false
	}
	at := 2
	var lens [3]uint64
	for i := range lens {
		v, n := binary.Uvarint(b[at:])
		if n <= 0 || v > 1<<32 {
			return e, false
		}
		lens[i], at = v, at+n
	}
	klen, vlen, expires := lens[0], lens[1], lens[2]
	if expires != 0 || klen < 8 || klen > 1<<16 || uint64(at)+klen+vlen+4 > uint64(len(b)) {
		return e, false
	}
	key := b[at : at+int(klen)]
	value := b[at+int(klen) : at+int(klen+vlen)]
	at += int(klen + vlen)
	if crc32.Checksum(b[:at], y.CastagnoliCrcTable) != binary.BigEndian.Uint32(b[at:]) {
		return e, false
	}
	e = logEntry{size: at + 4, txn: y.ParseTs(key), last: b[0]&metaFinTxn != 0}
	if e.last {
		txn, err := strconv.ParseUint(string(value), 10, 64)
		if err != nil {
			return e, false
		}
		e.txn = txn
	}
	return e, true
}
