package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
)

// The mark file holds one number and its checksum. It is replaced whole: a
// temporary file, fsync, rename, fsync of the directory.
const (
	markFile = "MARK"
	markLen  = 8 + 4
)

var markTable = crc32.MakeTable(crc32.Castagnoli)

func readMark(dir string) (n uint64, ok bool, err error) {
	b, err := os.ReadFile(filepath.Join(dir, markFile))
	if errors.Is(err, os.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	if len(b) != markLen || crc32.Checksum(b[:8], markTable) != binary.LittleEndian.Uint32(b[8:]) {
		return 0, false, fmt.Errorf("%w: %s", ErrCorrupt, filepath.Join(dir, markFile))
	}
	return binary.LittleEndian.Uint64(b), true, nil
}

func writeMark(dir string, n uint64) (err error) {
	b := binary.LittleEndian.AppendUint64(nil, n)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, markTable))
	name := filepath.Join(dir, markFile)
	f, err := os.OpenFile(name+".tmp", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(name+".tmp", name); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
