// Package seal puts every stored value into an envelope: a checksum, or, with
// keys, authenticated encryption. It knows nothing of what it wraps.
package seal

import (
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"
)

var (
	// ErrUnknownKey means that the value is sealed with a key that the keyring does
	// not hold.
	ErrUnknownKey = errors.New("sealed with an unknown key")
	// ErrDamaged means that the value, or what it is bound to, is not what was sealed.
	ErrDamaged = errors.New("sealed value damaged")
	// ErrFormat means an envelope of a format that this version does not know.
	ErrFormat = errors.New("unknown envelope format")
)

// The envelopes.
//
//	format 1 | CRC-32C 4 | value
//	format 2 | key id 4 | nonce 24 | ciphertext and tag
//
// The second is XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha): its random 192-bit nonces never meet in
// practice, however many values one key seals, so no counter has to survive a crash. The
// header is authenticated with the associated data.
const (
	formatPlain  = 1
	formatSealed = 2

	plainHead  = 1 + 4
	keyIDLen   = 4
	sealedHead = 1 + keyIDLen + chacha20poly1305.NonceSizeX
)

var table = crc32.MakeTable(crc32.Castagnoli)

// A Keyring seals with its first key and opens with all of them. Without keys it
// makes checksummed envelopes. It is safe for concurrent use.
type Keyring struct{ keys []key }

type key struct {
	id   [keyIDLen]byte
	aead cipher.AEAD
}

// New returns a keyring of distinct keys of 32 bytes each.
func New(keys [][]byte) (*Keyring, error) {
	k := new(Keyring)
	for i, secret := range keys {
		aead, err := chacha20poly1305.NewX(secret)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i, err)
		}
		h := sha256.Sum256(append([]byte("sessile key id\x00"), secret...))
		e := key{aead: aead}
		copy(e.id[:], h[:])
		if slices.ContainsFunc(k.keys, func(o key) bool { return o.id == e.id }) {
			return nil, fmt.Errorf("key %d is there twice", i)
		}
		k.keys = append(k.keys, e)
	}
	return k, nil
}

// Encrypted reports whether the keyring has keys.
func (k *Keyring) Encrypted() bool { return len(k.keys) > 0 }

// Overhead is by how many bytes an envelope is longer than its value.
func (k *Keyring) Overhead() int {
	if k.Encrypted() {
		return sealedHead + chacha20poly1305.Overhead
	}
	return plainHead
}

// Seal appends the envelope of plain, bound to aad, to dst.
func (k *Keyring) Seal(dst, plain, aad []byte) []byte {
	dst = slices.Grow(dst, len(plain)+k.Overhead())
	if !k.Encrypted() {
		dst = append(dst, formatPlain)
		dst = binary.LittleEndian.AppendUint32(dst, checksum(plain, aad))
		return append(dst, plain...)
	}
	first := &k.keys[0]
	head := len(dst)
	dst = append(dst, formatSealed)
	dst = append(dst, first.id[:]...)
	nonce := len(dst)
	dst = dst[:nonce+chacha20poly1305.NonceSizeX]
	rand.Read(dst[nonce:])
	bound := append(append(make([]byte, 0, sealedHead+len(aad)), dst[head:]...), aad...)
	return first.aead.Seal(dst, dst[nonce:], plain, bound)
}

// First reports whether an envelope that Open has opened is under the first key, or needs none.
func (k *Keyring) First(sealed []byte) bool {
	return !k.Encrypted() || k.keys[0].id == [keyIDLen]byte(sealed[1:])
}

// Open appends the value of an envelope to dst. It returns ErrDamaged if the
// envelope or aad is not what Seal was given, and then dst as it was. A value without encryption
// is damaged to a keyring with keys: nobody may slip one in.
func (k *Keyring) Open(dst, sealed, aad []byte) ([]byte, error) {
	if len(sealed) == 0 {
		return dst, fmt.Errorf("%w: empty", ErrDamaged)
	}
	switch sealed[0] {
	case formatPlain:
		if k.Encrypted() || len(sealed) < plainHead {
			return dst, ErrDamaged
		}
		plain := sealed[plainHead:]
		if checksum(plain, aad) != binary.LittleEndian.Uint32(sealed[1:]) {
			return dst, ErrDamaged
		}
		return append(dst, plain...), nil
	case formatSealed:
		return k.openSealed(dst, sealed, aad)
	}
	return dst, fmt.Errorf("%w: %d", ErrFormat, sealed[0])
}

func (k *Keyring) openSealed(dst, sealed, aad []byte) ([]byte, error) {
	if len(sealed) < sealedHead+chacha20poly1305.Overhead {
		return dst, ErrDamaged
	}
	id := [keyIDLen]byte(sealed[1:])
	for i := range k.keys {
		if k.keys[i].id != id {
			continue
		}
		bound := append(append(make([]byte, 0, sealedHead+len(aad)), sealed[:sealedHead]...), aad...)
		out, err := k.keys[i].aead.Open(dst, sealed[1+keyIDLen:sealedHead], sealed[sealedHead:], bound)
		if err != nil {
			return dst, ErrDamaged
		}
		return out, nil
	}
	return dst, fmt.Errorf("%w: id %x", ErrUnknownKey, id)
}

// checksum covers the length of aad, so that no byte can move between aad and value.
func checksum(plain, aad []byte) uint32 {
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(len(aad)))
	c := crc32.Update(0, table, n[:])
	c = crc32.Update(c, table, aad)
	return crc32.Update(c, table, plain)
}

// NameHash returns the keyed hash (HMAC-SHA-256) under which a name stands in a key.
func NameHash(secret []byte, name string) []byte {
	m := hmac.New(sha256.New, secret)
	m.Write([]byte(name))
	return m.Sum(nil)
}
