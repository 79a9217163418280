// Package chaos breaks a cluster of real processes in every way that
// docs/reliability.md lists, and checks after each that nothing was lost and
// nothing was done twice. It takes minutes, so it has a build tag of its own:
//
//	make chaos                        everything; prints its seed and the table
//	make chaos CHAOS_SEED=7           the same choices again; the scheduler's differ
//	make chaos RUN=TestConsumer/started
package chaos
