// Package pooler runs pgbouncer for tests.
package pooler
