// Package hold keeps calls from a credential whose endpoint asked for a pause.
//
// A credential is an endpoint and the API key that it is called with; a batch
// with a key of its own is a credential by itself at each endpoint. A 429, 503 or
// 529 with Retry-After holds the credential that earned it, and no other one. So does
// any answer by which nothing remains of the endpoint's rate limit, until its reset.
//
//	consumer: answer ──▶ Place ──▶ memory ──▶ bucket HOLDS ──▶ watch of every process
//	                                 │                          │
//	                     Admit, before each call      dispatcher: claims nothing held
//
// Bucket HOLDS has an entry per credential that is held, under a hash of the
// endpoint and key or batch: since when, until when, after which status, and which
// models are called with it. The consumer that got the answer holds at once; every
// other process sees the entry as the broker sends it, and looks itself for what
// it missed every two seconds. Nothing of this is on the way of a single call:
// Admit looks into memory.
//
// A hold ends by itself, at the latest after Config.Max, whatever the endpoint asked for;
// an operator may lift it before, which removes the entry. Until is the clock of
// the daemon that wrote the entry: a difference between clocks makes the pause
// longer or shorter, up to Max, and breaks nothing. A broker that loses the bucket
// loses the holds: the next call earns a new one.
//
// # Refusals
//
// A call may also be refused in a way that the next ones will share until a person
// does something: a wrong key, no quota, no such model, no connection. After
// Config.After of them in a row in one process, with no other answer between
// them, what they have in common is held, with its cause: the credential; or that
// and the model; or that and the owner, if what the owner asks for may be to blame,
// so that nobody's prompts hold others (batch.RefusalScope). Each has an entry of
// its own in the bucket, under a hash of what is held.
//
// Such a hold has no end. In each interval one call in the whole cluster is made all
// the same, the probe (probe.go): a dispatcher lets a request through, and the
// consumer that gets the token of the interval by compare-and-set makes the call.
// An answer that is no refusal lifts the hold for all, as an operator may. The
// entry outlives the processes; forgetAfter the time of its next probe it is
// forgotten, since nothing wants to be called.
//
// A process may have no network, or an old key, while others get answers. They
// lift its hold, and what it would hold again within relapseTime it holds for
// itself alone: it takes no requests but for its own probes.
//
// When a hold is over calls begin gently, in each consumer by itself: one at
// first, and one more at once for each that succeeds, which doubles them every
// round, until rampWidth are in flight at once or rampTime has passed.
package hold
