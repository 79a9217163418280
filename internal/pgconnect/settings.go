package pgconnect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// connectTimeout bounds the connection to one host. Where the URL names several,
	// one that is frozen or gone must not hold up the next for long.
	connectTimeout       = 10 * time.Second
	connectTimeoutOfMany = 5 * time.Second
)

// setting is a session setting and the value that it always has.
type setting struct{ name, value string }

// pinned makes sessions alike, whatever ALTER SYSTEM, ALTER DATABASE and ALTER
// ROLE say. All of them can be set by any role, and are known to Postgres 14.
var pinned = []setting{
	{"client_encoding", "UTF8"},
	{"DateStyle", "ISO, MDY"},
	{"IntervalStyle", "postgres"},
	{"TimeZone", "UTC"},
	{"bytea_output", "hex"},
	{"extra_float_digits", "1"},
	{"standard_conforming_strings", "on"},
	{"array_nulls", "on"},
	{"transform_null_equals", "off"},
	{"row_security", "on"},
	{"default_transaction_isolation", "read committed"},
	{"default_transaction_deferrable", "off"},
	// Statements are bounded by their contexts.
	{"statement_timeout", "0"},
	{"lock_timeout", "0"},
	{"idle_in_transaction_session_timeout", "0"},
	{"idle_session_timeout", "0"},
}

// planner nails the plans down: every statement of the store walks an index from
// a few rows given as arrays, and must never be planned otherwise because
// statistics are young or `requests` was empty when they were taken.
var planner = []setting{
	{"enable_seqscan", "off"},
	{"enable_bitmapscan", "off"},
	{"enable_hashjoin", "off"},
	{"enable_mergejoin", "off"},
	{"enable_indexscan", "on"},
	{"enable_indexonlyscan", "on"},
	{"enable_nestloop", "on"},
	{"jit", "off"},
	{"plan_cache_mode", "force_generic_plan"},
}

// Settings that cannot be named in a startup message: an older server refuses one
// that it does not know (transaction_timeout, of Postgres 17), and a stronger
// choice than ours stays (synchronous_commit: results that are acknowledged are on
// disk, and on the standbys that the operator chose).
const conditionalSQL = `
SELECT set_config(name, CASE name WHEN 'synchronous_commit' THEN 'on' ELSE '0' END, false)
  FROM pg_settings WHERE name = 'transaction_timeout' AND setting <> '0' OR name = 'synchronous_commit' AND setting = 'off'`

// transactionTimeoutVersion is the first release with transaction_timeout.
const transactionTimeoutVersion = 17

// ErrInvalidURL is returned for a URL that is not one of Postgres. It carries no
// part of the URL, which may hold a password.
var ErrInvalidURL = errors.New("invalid database URL: want postgres://user:password@host:port/database")

// Parse reads a connection string as libpq does. The connection is not pinned yet.
func Parse(url string) (*pgx.ConnConfig, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, ErrInvalidURL
	}
	Bound(cfg)
	return cfg, nil
}

// Bound bounds the time of a connection attempt, unless the URL does.
func Bound(cfg *pgx.ConnConfig) {
	if cfg.ConnectTimeout != 0 {
		return
	}
	cfg.ConnectTimeout = connectTimeout
	if slices.ContainsFunc(cfg.Fallbacks, func(f *fallback) bool { return f.Host != cfg.Host || f.Port != cfg.Port }) {
		cfg.ConnectTimeout = connectTimeoutOfMany
	}
}

// Pin gives a connection the settings of this project as it begins, those of the
// planner too if the store's statements run on it. The caller must also call
// AfterConnect on each connection.
func Pin(cfg *pgx.ConnConfig, withPlanner bool) {
	for _, s := range all(withPlanner) {
		cfg.RuntimeParams[s.name] = s.value
	}
}

// PinPooled is Pin for a connection through a pooler: it gives it the few settings
// that every version of pgbouncer takes, and keeps for each of its clients.
func PinPooled(cfg *pgx.ConnConfig) {
	for _, s := range pinned {
		if slices.Contains(pooledSettings, s.name) {
			cfg.RuntimeParams[s.name] = s.value
		}
	}
}

var pooledSettings = []string{"client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings"}

// AfterConnect pins what cannot be pinned as a connection begins.
func AfterConnect(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, conditionalSQL); err != nil {
		return fmt.Errorf("setting the session up: %w", err)
	}
	return nil
}

// PinSQL is a statement that pins the settings until its transaction ends, for a
// server of the major version, behind a pooler. It is the first statement of each
// transaction, and sent with the next.
func PinSQL(major int) string {
	var b strings.Builder
	b.WriteString("SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, true)")
	list := all(true)
	if major >= transactionTimeoutVersion {
		list = append(list, setting{"transaction_timeout", "0"})
	}
	for _, s := range list {
		// PinPooled has said the encoding, and the isolation of a transaction
		// that has begun cannot change: Inspect has looked at its default.
		if s.name != "client_encoding" && s.name != "default_transaction_isolation" {
			fmt.Fprintf(&b, ", set_config('%s', '%s', true)", s.name, s.value)
		}
	}
	return b.String()
}

func all(withPlanner bool) []setting {
	if withPlanner {
		return slices.Concat(pinned, planner)
	}
	return slices.Clone(pinned)
}

// UnpinPlannerSQL plans what follows in a transaction as servers do by default: for
// statements that are not the store's.
func UnpinPlannerSQL() string {
	var b strings.Builder
	for i, s := range planner {
		value := "on"
		if s.name == "plan_cache_mode" {
			value = "auto"
		}
		separator := ", "
		if i == 0 {
			separator = "SELECT "
		}
		fmt.Fprintf(&b, "%sset_config('%s', '%s', true)", separator, s.name, value)
	}
	return b.String()
}

// Settings lists the settings that sessions have, and their values.
func Settings() (list [][2]string) {
	for _, s := range all(true) {
		list = append(list, [2]string{s.name, s.value})
	}
	return list
}
