package peers

import (
	"context"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
)

var redisScriptKind = Kind{
	Name:     "redis, script",
	Module:   "github.com/redis/go-redis/v9",
	Expires:  true,
	InMemory: true,
	Notes: map[Regime]string{
		WriteBehind: "redis-server on the same cores, unix socket, appendonly, appendfsync everysec; a hash per session, the change a Lua script (EVALSHA)",
		Durable:     "appendfsync always; otherwise as in write-behind",
	},
	Open: func(c Config) (Peer, error) {
		s, err := startRedis(c)
		if err != nil {
			return nil, err
		}
		return &redisScript{s}, nil
	},
}

var redisPlainKind = Kind{
	Name:          "redis, GET and SET",
	Module:        "github.com/redis/go-redis/v9",
	Expires:       true,
	InMemory:      true,
	LoadsAndSaves: true,
	Notes: map[Regime]string{
		WriteBehind: "the same server, but a string per session, which a change gets and sets, as session libraries do",
	},
	Open: func(c Config) (Peer, error) {
		s, err := startRedis(c)
		if err != nil {
			return nil, err
		}
		return &redisPlain{s, newBlob(c.Size)}, nil
	},
}

// redisScript changes a hash on the server, where nothing comes between.
type redisScript struct{ *redisServer }

// KEYS[1]: the session. ARGV[1]: its time to live in milliseconds, 0 for none. ARGV[2]: 1 reads all fields before.
var redisChange = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if ARGV[2] == '1' then redis.call('HGETALL', KEYS[1]) end
redis.call('HINCRBY', KEYS[1], 'a', 1)
redis.call('HINCRBY', KEYS[1], 'b', 1)
if ARGV[1] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return 1`)

func (p *redisScript) create(c redis.Cmdable, id string) {
	csrf, name, profile := fields(p.size)
	c.HSet(context.Background(), id, "a", 0, "b", 0, "csrf", csrf, "name", name, "profile", profile)
	if p.ttl > 0 {
		c.PExpire(context.Background(), id, p.ttl)
	}
}

func (p *redisScript) Fill(ids []string) error {
	_, err := p.pipeline(ids, func(pipe redis.Pipeliner, id string) { p.create(pipe, id) })
	return err
}

func (p *redisScript) Create(id string) error { return p.Fill([]string{id}) }

func redisPair(values []any, err error) (Pair, error) {
	if err != nil {
		return Pair{}, err
	}
	if len(values) != 2 || values[0] == nil || values[1] == nil {
		return Pair{}, errMissing
	}
	a, errA := strconv.ParseInt(fmt.Sprint(values[0]), 10, 64)
	b, errB := strconv.ParseInt(fmt.Sprint(values[1]), 10, 64)
	if errA != nil || errB != nil {
		return Pair{}, fmt.Errorf("not a counter: %v", values)
	}
	return Pair{a, b}, nil
}

func (p *redisScript) Read(id string) (Pair, error) {
	return redisPair(p.client.HMGet(context.Background(), id, "a", "b").Result())
}

func (p *redisScript) Change(id string, whole bool) error {
	n, err := redisChange.Run(context.Background(), p.client, []string{id}, p.ttl.Milliseconds(), whole).Int()
	if err == nil && n == 0 {
		err = errMissing
	}
	return err
}

// Sum adds up the counters.
func (p *redisScript) Sum(ids []string) (sum int64, err error) {
	done, err := p.pipeline(ids, func(pipe redis.Pipeliner, id string) { pipe.HMGet(context.Background(), id, "a", "b") })
	if err != nil {
		return 0, err
	}
	for _, c := range done {
		pair, err := redisPair(c.(*redis.SliceCmd).Result())
		if err != nil {
			return 0, err
		}
		sum += pair.A
	}
	return sum, nil
}

// redisPlain gets a session, changes it and sets it.
type redisPlain struct {
	*redisServer
	blob []byte
}

func (p *redisPlain) Fill(ids []string) error {
	_, err := p.pipeline(ids, func(pipe redis.Pipeliner, id string) {
		pipe.Set(context.Background(), id, p.blob, p.ttl)
	})
	return err
}

func (p *redisPlain) Create(id string) error {
	return p.client.Set(context.Background(), id, p.blob, p.ttl).Err()
}

func redisBlob(b []byte, err error) ([]byte, error) {
	if err == nil && len(b) < 16 {
		err = fmt.Errorf("not a session: %d bytes", len(b))
	}
	return b, err
}

func (p *redisPlain) Read(id string) (Pair, error) {
	b, err := redisBlob(p.client.Get(context.Background(), id).Bytes())
	if err != nil {
		return Pair{}, err
	}
	return pairOf(b), nil
}

func (p *redisPlain) Change(id string, _ bool) error {
	b, err := redisBlob(p.client.Get(context.Background(), id).Bytes())
	if err != nil {
		return err
	}
	raise(b)
	return p.client.Set(context.Background(), id, b, p.ttl).Err()
}

// Sum adds up the counters.
func (p *redisPlain) Sum(ids []string) (sum int64, err error) {
	done, err := p.pipeline(ids, func(pipe redis.Pipeliner, id string) { pipe.Get(context.Background(), id) })
	if err != nil {
		return 0, err
	}
	for _, c := range done {
		b, err := redisBlob(c.(*redis.StringCmd).Bytes())
		if err != nil {
			return 0, err
		}
		sum += pairOf(b).A
	}
	return sum, nil
}

var _, _ Summer = (*redisScript)(nil), (*redisPlain)(nil)

var redisAdd = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HINCRBY', KEYS[1], 'a', 1)
return 1`)

// Add raises the first counter.
func (p *redisScript) Add(id string) error {
	n, err := redisAdd.Run(context.Background(), p.client, []string{id}).Int()
	if err == nil && n == 0 {
		err = errMissing
	}
	return err
}
