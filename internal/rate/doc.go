// Package rate shares rate limits among the daemons of the cluster: what is sent
// to a model, or with a credential, in any minute never passes its limit of
// requests and of tokens, whatever crashes, freezes or is cut off.
//
// # Terms
//
//	limit    requests and tokens for each minute
//	lease    what a daemon may spend within validity, and nobody else
//	entry    a limit's value in bucket RATES: what the last minute has used
//	slice    half a second of the broker's clock; an entry has a sum for each
//	pace     the time at which the next request or token may pass
//	settled  tokens that were estimated are replaced by those of the answer
//
// Take and Settle count in memory and wait for nothing. While requests wait, a
// daemon leases what they need a few times a second, by compare-and-set on the
// entry's revision, and spends it here. What it did not spend it keeps if its
// requests still need it, else releases.
//
// # Invariants
//
//	I1  A lease is in the entry before it is spent, in the slice of the last
//	    moment at which it may be: the time of its revision plus validity. The
//	    daemon counts validity from before it wrote, so it stops no later.
//	I2  A window ends with some lease. All that can have been spent in the minute
//	    before is in slices that the entry still has when that lease is granted,
//	    and their sum with it is at most the limit. So no window is above it.
//	I3  Times are of the broker's clock alone. A daemon knows a lower bound of it,
//	    from the times of revisions that it has seen: slices leave late, and never
//	    early. Clocks of daemons are used for durations.
//	I4  What is released, or settled, is taken from the slice in which it was
//	    counted, or from an earlier one. If that is gone, the sum does not change: a
//	    call that took ten minutes gives no credit to this one.
//	I5  The pace lets a limit pass in 61 s, with half a second's worth at once. It
//	    keeps calls evenly spread, and bounds a window by itself if slices are
//	    lost: a new entry grants nothing for a short while and then goes at the
//	    pace, as if the minute before had used all of the limit evenly.
//
// # Crashes
//
// A daemon that dies with a lease has spent it, as far as the entry knows: its
// slices leave a minute later. A write whose outcome is unknown counts as done
// and its lease as spent. A broker that is away grants nothing. If it loses the
// bucket, entries are made anew (I5). If the broker's clock jumps ahead, as with
// another leader of the bucket, the slices leave early by that, and the pace
// still holds; back, and nothing is granted until it has caught up.
//
// # Large requests
//
// A request that needs more tokens than come free in a second would wait behind
// smaller ones of other daemons for ever. It takes the turn: until it was granted,
// the tokens that it needs are kept for it. There is one turn in an entry, and it
// ends by itself if its daemon does not renew it.
//
// # Tokens
//
// What a call will use is estimated before it and corrected by the answer's
// usage. Each daemon follows how the two compare for a limit, and estimates by
// that: the mean, and twice the mean deviation to be on the safe side.
//
// # Rejected
//
//   - A share of the rate for each daemon: half of the limit lies idle when half
//     of the daemons have no work, and moving a share takes a minute.
//   - A token bucket alone: with a burst b and a rate r it passes r × 60 s + b in a
//     minute, and what is released late may be spent twice in one window.
//   - A counter for each minute of the clock: twice the limit around its turn.
package rate
