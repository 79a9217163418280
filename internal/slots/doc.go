// Package slots shares each model's concurrency limit among the daemons of
// the cluster. A slot is a lease on one call in flight.
//
// Bucket SLOTS holds one entry per model: the limit, and for every daemon how
// many slots it holds and how many it wants. Daemons change it by
// compare-and-set on its revision, so the sum of what is held never passes
// the limit. A daemon takes slots when work waits, up to its fair share when
// others wait too; it lowers what it holds only after its calls in flight have
// fallen to the new number, and gives back what it leaves unused. A holding
// whose daemon has lost its heartbeat is dropped by whoever next needs it.
//
// When the broker loses the bucket, daemons carry their calls in flight into
// the new one, whatever the limit is; dispatchers set a limit there only when
// all have had the time to (CarriedAfter).
//
// Nothing of this is on the way of a single call: Acquire and Release count in
// memory against what is held; the bucket is touched when demand shifts.
package slots
