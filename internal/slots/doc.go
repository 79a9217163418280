// Package slots shares each model's concurrency limit among the daemons of the
// cluster: the number of calls in flight to a model never passes its limit,
// whatever crashes, freezes or is cut off.
//
// # Terms
//
//	limit      the most calls in flight to a model, in the whole cluster
//	slot       the right to one of them
//	entry      the model's value in bucket SLOTS: limit, settings, holders
//	held       slots that the entry says a daemon has
//	want       slots that the daemon would have if it could
//	share      a daemon's max-min fair part of the limit, from what all want
//	allowed    calls that the daemon lets be in flight; an Account's own number
//	in use     calls that are in flight there
//	to settle  to bring held in line with want and share
//
// Acquire and Release count in memory and wait for nothing. The bucket is
// touched when demand shifts, by compare-and-set on the entry's revision.
//
// # Invariants
//
//	I1  The sum of what is held never grows beyond the limit: a write that raises
//	    takes no more than limit − what the others hold, and applies only to the
//	    revision from which that was read. It is above the limit only after the
//	    limit was lowered, until calls end.
//	I2  In each daemon, in use ≤ held: nobody has more calls in flight than the
//	    bucket knows of. With I1, calls in flight never pass the limit.
//	I3  allowed ≤ held. To lower, allowed falls first, calls end, and then the
//	    entry is written; to raise, the entry is written first. So I2 holds
//	    whatever happens to the write.
//	I4  After a write whose outcome is unknown allowed is not raised until a later
//	    revision was seen, because what the write lowered may be another's.
//	I5  Only news of a higher revision is taken over. Revisions of one bucket grow;
//	    those of another bucket say nothing (generation).
//	I6  A holding is released by another daemon only if the holder's heartbeat is
//	    gone from the bucket of daemons and stale in Postgres. A daemon without a
//	    heartbeat has fenced itself one interval before, and its calls have ended.
//	I7  An entry exists only for models with work, and goes with nobody holding
//	    slots (Retire). Without an entry nothing is allowed.
//
// # Races
//
//   - Two daemons take the last slot: one compare-and-set fails, and its daemon
//     plans anew from the entry as it is.
//   - A daemon is declared dead by mistake and lives: it sees its holding gone, and
//     allowed falls to 0 at once; its calls in flight end. That needs a heartbeat
//     lost for longer than the threshold, after which it has fenced itself (I6).
//     After a reconnect nobody's heartbeat is judged for an interval and a half,
//     because all of them may just not have been renewed yet.
//   - The broker loses the bucket. Each daemon notices within RestoredAfter, by the
//     bucket's time of creation, and writes its calls in flight into the new one,
//     whatever the limit is; until the leader has made an entry, with a limit of
//     zero. The leader sets limits there only when every daemon that may have had
//     calls has had that time, or has begun after the bucket was made.
//   - The bucket goes back in time: an older copy of the broker's store is put back,
//     or a majority of the replicas has lost their end. Each daemon notices by the
//     revisions, which are lower than those that it knows, writes nothing for a
//     second, enters its calls in flight, and takes no slot for RestoredAfter. One
//     that knows of no later revision than what was put back cannot notice, and may
//     take slots of calls that are not entered yet: it has begun just now, or was
//     cut off. So the limit may be passed for three seconds, by at most what was
//     free then and is in flight now.
//   - The broker is split, and two halves serve from what both knew (which Raft
//     forbids, and copies of a store do not). The holders of the other half keep
//     their slots, since they live by Postgres; what nobody held at the split can be
//     taken in each half. So calls in flight are at most the limit times the halves.
//   - A limit is lowered below what is held: allowed falls at once, held as calls
//     end. Nobody raises meanwhile, by I1.
//   - The watch is blind: for up to 19 s after a restart of the server (measured
//     with nats-server 2.15). A poll compares the bucket's last sequence with what
//     the watch has delivered, and reads the bucket when it is ahead.
//
// # Fairness
//
// A daemon takes slots when work waits, up to its share when others wait too;
// slots that do not divide evenly stay with those that hold most. It releases
// what it leaves unused for a second, or at once when another is short. A daemon
// without work asks for one slot now and then while others have more queued, so
// that the next messages come to it too.
//
// # Rejected
//
//   - MaxAckPending of the stream's consumer as the limit: it counts messages, not
//     calls. A message in backoff keeps its place, so a failing model would stop
//     for good ones; and a redelivery while its worker lives runs beside it (with a
//     limit of 4, 20 at once were measured).
//   - A row per call or per slot in Postgres: two writes for each call.
//   - A fixed share for each daemon: half of the limit lies idle when half of the
//     daemons have no work.
//   - A coordinator that hands slots out: one more thing to elect and to lose, and
//     a round trip for each call. Compare-and-set needs none, and the broker is
//     there anyway.
package slots
