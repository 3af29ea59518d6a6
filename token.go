package sessile

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Tokens: selector and verifier. A token is "id.secret": the id finds the
// session, the secret of 256 random bits proves the right to it. The session keeps only the SHA-256
// of secrets, in a reserved field, so a new token is an ordinary change of one
// session: nothing is renamed, so there is nothing to resurrect, and no copy of the database holds a usable token. The
// secrets are random, so their hashes need no salt.

// A TokenKind says what a new token does to the older ones.
type TokenKind uint8

const (
	// TokenLogin is for a login, and for every other change of what the session may
	// do. It raises the session's auth epoch: every older token is dead with this commit,
	// and so is every [Grant] that came from one.
	TokenLogin TokenKind = iota + 1

	// TokenRefresh is for periodic renewal. The older tokens live on until the
	// new one is first presented to Resolve, and a few seconds longer for requests under
	// way, so that a lost response logs nobody out.
	TokenRefresh
)

// A Grant is what a token proves: the right to a session, in one auth epoch. Who
// keeps it checks in each transaction that [Txn.Epoch] still is Epoch, and
// answers ErrRenewed if not.
type Grant struct {
	ID    string
	Epoch uint64
}

const (
	tokenGrace  = 5 * time.Second // for requests that carry the token replaced
	tokenMemory = time.Minute     // in which a dead token is told apart from an unknown one
	maxTokens   = 8               // kept in one session

	secretLen  = 32
	secretText = 43 // of secretLen bytes in base64url
)

// A verifier is what the session keeps of one token.
type verifier struct {
	hash      [sha256.Size]byte
	issued    int64 // engine time in ms, like the others
	presented int64 // 0: not yet
	retired   int64 // by a login; 0: alive
}

const verifierLen = sha256.Size + 3*8

// verifiers is the tokens field: the epoch, then the verifiers, oldest first.
type verifiers struct {
	epoch uint64
	list  []verifier
}

func decodeVerifiers(b []byte) (v verifiers) {
	if len(b) < 8 {
		return v
	}
	v.epoch = binary.LittleEndian.Uint64(b)
	for b = b[8:]; len(b) >= verifierLen; b = b[verifierLen:] {
		var t verifier
		n := copy(t.hash[:], b)
		t.issued = int64(binary.LittleEndian.Uint64(b[n:]))
		t.presented = int64(binary.LittleEndian.Uint64(b[n+8:]))
		t.retired = int64(binary.LittleEndian.Uint64(b[n+16:]))
		v.list = append(v.list, t)
	}
	return v
}

func (v verifiers) encode() []byte {
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, 8+len(v.list)*verifierLen), v.epoch)
	for _, t := range v.list {
		b = append(b, t.hash[:]...)
		b = binary.LittleEndian.AppendUint64(b, uint64(t.issued))
		b = binary.LittleEndian.AppendUint64(b, uint64(t.presented))
		b = binary.LittleEndian.AppendUint64(b, uint64(t.retired))
	}
	return b
}

// match returns the place of the secret's verifier, -1 if there is none.
func (v verifiers) match(hash [sha256.Size]byte) int {
	at := -1
	for i := range v.list {
		if subtle.ConstantTimeCompare(v.list[i].hash[:], hash[:]) == 1 {
			at = i
		}
	}
	return at
}

// retiredAt returns since when a verifier is dead, 0 if it is alive.
func (v verifiers) retiredAt(i int, now int64) int64 {
	t := v.list[i]
	if t.retired != 0 {
		return t.retired
	}
	for _, newer := range v.list[i+1:] {
		if newer.presented != 0 && newer.presented+tokenGrace.Milliseconds() <= now {
			return newer.presented + tokenGrace.Milliseconds()
		}
	}
	return 0
}

// replaces reports whether the presentation of a verifier will end an older one.
// The others need not be noted, which would be a commit.
func (v verifiers) replaces(i int, now int64) bool {
	for older := range i {
		if v.retiredAt(older, now) == 0 {
			return true
		}
	}
	return false
}

// prune forgets verifiers that were dead for longer than tokenMemory, and the oldest
// beyond maxTokens.
func (v *verifiers) prune(now int64) {
	kept := v.list[:0:0]
	for i := range v.list {
		if at := v.retiredAt(i, now); at == 0 || now-at < tokenMemory.Milliseconds() {
			kept = append(kept, v.list[i])
		}
	}
	if len(kept) > maxTokens {
		kept = kept[len(kept)-maxTokens:]
	}
	v.list = kept
}

// NewToken issues a token for the session and stages its verifier. The token is
// good when the commit is; it is nowhere kept and cannot be had again. Call [Txn.Durable], too,
// when a token must not outlive a crash that its session's change does not.
//
// ErrInvalidID is returned for a session id with bytes that a cookie cannot carry.
func (t Txn) NewToken(kind TokenKind) (token string, err error) {
	if err := t.check(true); err != nil {
		return "", err
	}
	if kind != TokenLogin && kind != TokenRefresh {
		return "", fmt.Errorf("sessile: unknown token kind %d", kind)
	}
	id := t.state.s.Own().id()
	if !tokenID(id) {
		return "", fmt.Errorf("%w: %q cannot be part of a token", ErrInvalidID, id)
	}
	now := t.state.e.clock.now()
	field, _ := t.state.lookup(keyTokens)
	v := decodeVerifiers(field)
	if kind == TokenLogin || v.epoch == 0 {
		v.epoch++
		for i := range v.list {
			if v.retiredAt(i, now) == 0 {
				v.list[i].retired = now
			}
		}
	}
	var secret [secretLen]byte
	rand.Read(secret[:])
	v.list = append(v.list, verifier{hash: sha256.Sum256(secret[:]), issued: now})
	v.prune(now)
	t.state.set(keyTokens, v.encode())
	return id + "." + base64.RawURLEncoding.EncodeToString(secret[:]), nil
}

// tokenID reports whether a cookie's value can carry the id (RFC 6265, section 4.1.1).
func tokenID(id string) bool {
	for i := range len(id) {
		switch c := id[i]; {
		case c <= ' ', c >= 0x7f, c == '"', c == ',', c == ';', c == '\\':
			return false
		}
	}
	return true
}

// Epoch returns the session's auth epoch: 0 before the first token, and raised by
// each NewToken(TokenLogin), this transaction's included.
func (t Txn) Epoch() uint64 {
	if !t.valid() {
		return 0
	}
	field, _ := t.state.lookup(keyTokens)
	if len(field) < 8 {
		return 0
	}
	return binary.LittleEndian.Uint64(field)
}

// TokenTime returns when the session's newest token was issued, the zero time if
// none was. A web layer decides by it, inside the transaction, whether it is
// time for a TokenRefresh, so that parallel requests renew once.
func (t Txn) TokenTime() time.Time {
	if !t.valid() {
		return time.Time{}
	}
	field, _ := t.state.lookup(keyTokens)
	if len(field) < 8+verifierLen {
		return time.Time{}
	}
	newest := field[len(field)-verifierLen:] // see decodeVerifiers
	return time.UnixMilli(int64(binary.LittleEndian.Uint64(newest[sha256.Size:])))
}

// parseToken is strict: exactly what NewToken makes.
func parseToken(token string) (id string, hash [sha256.Size]byte, ok bool) {
	dot := len(token) - secretText - 1
	if dot < 1 || dot > MaxIDLen || token[dot] != '.' || !tokenID(token[:dot]) {
		return "", hash, false
	}
	var secret [secretLen]byte
	n, err := base64.RawURLEncoding.Strict().Decode(secret[:], []byte(token[dot+1:]))
	if err != nil || n != secretLen || strings.ContainsAny(token[dot+1:], "\r\n") {
		return "", hash, false
	}
	return token[:dot], sha256.Sum256(secret[:]), true
}

// Resolve returns what the token proves. It does not touch the session and waits
// for no callback. ErrRenewed and ErrEnded tell of tokens that were good within
// the last minute; ErrNoToken is everything else, a malformed token (refused
// before anything is looked up) included. None of the three is a reason to
// create a session or to set a cookie, which could overwrite a newer one. Other errors
// are View's.
func (e *Engine) Resolve(ctx context.Context, token string) (Grant, error) {
	ctx = background(ctx)
	id, hash, ok := parseToken(token)
	if !ok {
		return Grant{}, ErrNoToken
	}
	if err := e.enter(ctx); err != nil {
		return Grant{}, err
	}
	var s *session
	var v verifiers
	err := e.onSession(ctx, id, func(sh *shard, found *session) error {
		if found.status() != live || e.expireLocked(sh, found) {
			return ErrNotFound
		}
		s = found
		field, _ := s.priv.Load().get(keyTokens)
		v = decodeVerifiers(field)
		return nil
	})
	now := e.clock.now()
	switch {
	case errors.Is(err, ErrNotFound):
		return Grant{}, e.tokens.errorFor(hash, now)
	case err != nil:
		return Grant{}, err
	}
	i := v.match(hash)
	switch {
	case i < 0:
		// Perhaps of a session that ended, and whose id was taken again.
		return Grant{}, e.tokens.errorFor(hash, now)
	case v.list[i].issued < e.tokensNotBefore():
		return Grant{}, ErrNoToken
	}
	if at := v.retiredAt(i, now); at != 0 {
		if now-at < tokenMemory.Milliseconds() {
			return Grant{}, ErrRenewed
		}
		return Grant{}, ErrNoToken
	}
	if v.list[i].presented == 0 && v.replaces(i, now) {
		e.present(ctx, s, hash)
	}
	return Grant{ID: id, Epoch: v.epoch}, nil
}

func (e *Engine) tokensNotBefore() int64 {
	if e.opt.TokensNotBefore.IsZero() {
		return 0
	}
	return e.opt.TokensNotBefore.UnixMilli()
}

// present notes that a renewed token has arrived, which starts the end of the older
// ones. If the session is locked just now, the token's next use does it.
func (e *Engine) present(ctx context.Context, s *session, hash [sha256.Size]byte) {
	if e.gate.Load() != 0 || !s.tryLock() {
		return
	}
	sh := e.shardOf(e.hash(s.id()))
	base, _, err := e.enterSession(sh, s, s.id(), modeUpdate)
	if err != nil || base == nil {
		e.unlock(sh, s)
		return
	}
	st := e.updates.take()
	st.hold(s, sh, base, ctx, modeUpdate, 0, 0)
	st.noTouch = true
	out, err := e.run(st, func(tx Txn) error {
		field, _ := st.lookup(keyTokens)
		v := decodeVerifiers(field)
		if i := v.match(hash); i >= 0 && v.list[i].presented == 0 {
			v.list[i].presented = e.clock.now()
			st.set(keyTokens, v.encode())
		}
		return nil
	})
	_ = e.settle(ctx, out, err) // not durable, and it ends nothing: there is no error to tell
}

// endedTokens remembers the tokens of sessions that ended within the last
// minute, so that Resolve can say so. Its mutex is taken last, under a shard's latch too.
type endedTokens struct {
	mu sync.Mutex
	// Guarded by mu.
	ended map[[sha256.Size]byte]int64
	swept int64
}

// maxEndedTokens bounds the memory; beyond it ended sessions answer ErrNoToken.
const maxEndedTokens = 1 << 16

// remember notes the live tokens of a session that ends now.
func (t *endedTokens) remember(now int64, r *record) {
	if r.flags&flagTokens == 0 {
		return
	}
	field, _ := r.get(keyTokens)
	v := decodeVerifiers(field)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended == nil {
		t.ended = make(map[[sha256.Size]byte]int64)
	}
	if now-t.swept > tokenMemory.Milliseconds() {
		t.swept = now
		for h, at := range t.ended {
			if now-at >= tokenMemory.Milliseconds() {
				delete(t.ended, h)
			}
		}
	}
	for i := range v.list {
		if v.retiredAt(i, now) == 0 && len(t.ended) < maxEndedTokens {
			t.ended[v.list[i].hash] = now
		}
	}
}

// errorFor returns the error for a token without a session.
func (t *endedTokens) errorFor(hash [sha256.Size]byte, now int64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if at, ok := t.ended[hash]; ok && now-at < tokenMemory.Milliseconds() {
		return ErrEnded
	}
	return ErrNoToken
}
