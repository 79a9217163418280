package embedded

import "os"

// clientVariables are what clients of Postgres read from the environment
// (pgconn.ParseConfig).
var clientVariables = []string{
	"PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD", "PGPASSFILE", "PGAPPNAME", "PGCONNECT_TIMEOUT",
	"PGSSLMODE", "PGSSLKEY", "PGSSLCERT", "PGSSLCERTMODE", "PGSSLSNI", "PGSSLROOTCERT", "PGSSLPASSWORD", "PGSSLNEGOTIATION",
	"PGTARGETSESSIONATTRS", "PGSERVICE", "PGSERVICEFILE", "PGTZ", "PGOPTIONS", "PGMINPROTOCOLVERSION", "PGMAXPROTOCOLVERSION",
	"PGCHANNELBINDING", "PGREQUIREAUTH",
}

// dropClientEnvironment removes them from this process's environment. A
// PGSERVICE, PGOPTIONS or PGTARGETSESSIONATTRS in the user's shell is meant for
// another server: on the one that is started here it would keep every
// connection from being made, or change what it does. A URL cannot override all
// of them, PGSERVICE above all.
func dropClientEnvironment() {
	for _, name := range clientVariables {
		_ = os.Unsetenv(name)
	}
}
