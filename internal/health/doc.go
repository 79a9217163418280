// Package health serves what operators and their tools ask a running daemon:
//
//	GET /livez    200 while the process makes progress, else 503: restart it
//	GET /readyz   200 while it can take work, else 503 with the reasons
//	GET /metrics  Prometheus text
//
// It changes nothing and shows no prompt, response, key or id of a batch. It
// has no authentication: its address is for the machines of operators alone.
package health
