// Package rates holds rate limits to their promise on real processes: three
// consumers, one killed on the way, and two models of 600 requests and 100,000
// tokens a minute, of which one is short of requests and the other of tokens. It
// prints what each minute had and the fullest window of 60 s. It takes as long as
// it measures, so it has a build tag of its own:
//
//	make rates                ten minutes
//	make rates MINUTES=3      three
package rates
