// Package batch is the domain: what a batch, a request and an attempt are,
// which moves between states are legal, and the arithmetic of retries and
// deadlines. It imports the standard library only; every other package
// imports it, and it imports none of them.
//
//	          claim            start             outcome
//	pending ───────▶ claimed ───────▶ processing ───────▶ completed | failed
//	   ▲                │                 │
//	   └────────────────┴─────────────────┘               canceled | expired
//	     release, retry, dead daemon           (from any live state)
package batch
