// Package testenv gives tests a real Postgres and a real NATS server.
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
//
//	func TestClaim(t *testing.T) {
//		t.Parallel()
//		pool, err := pgxpool.New(t.Context(), testenv.DatabaseURL(t))
//		...
//	}
//
// Each test gets a database of its own, copied from one that is migrated once a
// process, or once by withpostgres. The server, found when the first test asks, is one of:
//
//  1. the one at FUSILLADE_TEST_DATABASE_URL, whose user may create databases;
//     FUSILLADE_TEST_POSTGRES_VERSION in its place asks for one of a major version,
//     which is started from programs on the machine, or downloaded;
//  2. a container, if a Docker engine answers and has or quickly gets the image;
//  3. one started from programs on the machine, or downloaded.
//
// Each package's tests are a process and start a server of their own, if need be:
// withpostgres runs many of them on one.
//
// With -short, tests that ask for a database are skipped, and no server is started.
//
// Unlike other packages it reads the environment: FUSILLADE_TEST_DATABASE_URL,
// FUSILLADE_TEST_POSTGRES_VERSION, FUSILLADE_TEST_DATABASE_TEMPLATE
// and what Docker's own clients read.
package testenv
