package slots

import (
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// confirmations is how many looks in a row must find a replicated bucket older
	// than what is known of it: a replica that has just been elected may be behind
	// for a moment.
	confirmations = 2
	// enterAfter is how long a daemon that has noticed writes nothing: what it wrote
	// could make the bucket look as new as before to others.
	enterAfter = time.Second
)

// wentBack reports whether a look is to be left unused, because the bucket was
// older than what is known of it. If it is confirmed, the store has gone back in
// time, as when an older copy of it was put back, or a majority of its replicas
// has lost their end. Nothing that is known of it holds then, the numbers of its
// revisions among it, and what it says is in flight was so once. So it is treated
// as a lost bucket: each daemon enters the calls that it has in flight, and takes
// no slot until all have had the time to do so.
func (k *Keeper) wentBack(info *jetstream.StreamInfo, last uint64, entries []jetstream.KeyValueEntry, known map[string]uint64) bool {
	behind := info.State.LastSeq < last
	for _, entry := range entries {
		behind = behind || entry.Revision() < known[entry.Key()]
	}
	if !behind {
		k.older = 0
		return false
	}
	k.older++
	if k.older < confirmations && info.Config.Replicas > 1 {
		return true
	}
	k.cfg.Log.Warn("the bucket of slots has gone back in time; no slot is taken until all daemons have entered their calls in flight")
	k.older, k.read = 0, 0
	k.forget(time.Now().Add(enterAfter + RestoredAfter))
	return true
}

// known are the highest revision that is known of the bucket, and those of its
// entries.
func (k *Keeper) known() (last uint64, revisions map[string]uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	last, revisions = max(k.read, k.watched.Load()), make(map[string]uint64, len(k.accounts))
	for key, a := range k.accounts {
		revisions[key] = a.known()
		last = max(last, revisions[key])
	}
	return last, revisions
}

func (a *Account) known() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.revision
}
