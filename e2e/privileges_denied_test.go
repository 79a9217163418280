package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"fusillade/internal/testenv"
)

// rare are permissions that a daemon needs only when something went wrong, or when
// a message or a marker is an hour old.
var rare = map[string]string{
	"$JS.API.STREAM.CREATE.":             "of the streams another one was first to create",
	"fusillade.hints.work":               "of a consumer, whose requests were released",
	"$JS.FC.":                            "the broker waits for a watcher that is slow",
	"$JS.API.STREAM.INFO.KV_RATES":       "of a dispatcher of the release before, while a cluster is upgraded",
	"$JS.API.STREAM.PURGE.KV_SLOTS":      "markers of retired models are removed after a while",
	"$JS.API.STREAM.MSG.DELETE.REQUESTS": "a message that is not to be delivered any more",
	"$JS.API.STREAM.MSG.GET.REQUESTS":    "a request whose message may be lost",
}

var shardNumber = regexp.MustCompile(`(REQUESTS|requests)_[0-9]+`)

// wantAllUsed fails the test for a permission that nobody made use of, on any of
// the streams of requests.
func (s *secured) wantAllUsed() {
	s.t.Helper()
	client := map[string]string{"dispatcher": "dispatcher", "consumer": "consumer", "api": "api", "operator": "cli"}
	for _, role := range roles {
		used := make(map[string]bool) // by verb and pattern, of any shard
		permissions := map[string]*natsserver.SubjectPermission{"PUB": s.natsUser[role].Publish, "SUB": s.natsUser[role].Subscribe}
		for verb, p := range permissions {
			for _, pattern := range p.Allow {
				key := verb + " " + shardNumber.ReplaceAllString(pattern, "$1")
				used[key] = used[key] || s.used.matching(client[role]+" "+verb, pattern)
			}
		}
		for key, was := range used {
			_, pattern, _ := strings.Cut(key, " ")
			isRare := slices.ContainsFunc(slices.Collect(maps.Keys(rare)), func(prefix string) bool { return strings.HasPrefix(pattern, prefix) })
			if !was && !isRare {
				s.t.Errorf("%s may %s and never did", role, key)
			}
		}
	}
}

// wantDenied tries as each role what is another's to do.
func (s *secured) wantDenied() {
	s.t.Helper()
	for role, statements := range map[string][]string{
		"dispatcher": {
			`SELECT sealed FROM batch_keys`, `SELECT upstream_key FROM models`, `SELECT hash FROM api_keys`, `UPDATE models SET upstream_url = 'http://elsewhere'`,
			`INSERT INTO api_keys DEFAULT VALUES`, `INSERT INTO webhooks DEFAULT VALUES`, `DROP TABLE jobs`, `CREATE TABLE mine ()`,
		},
		"consumer": {
			`SELECT hash FROM api_keys`, `SELECT secret FROM webhooks`, `DELETE FROM results`, `DELETE FROM batches`, `DELETE FROM files`, `SELECT * FROM uploads`,
			`UPDATE models SET upstream_url = 'http://elsewhere'`, `INSERT INTO batches DEFAULT VALUES`, `INSERT INTO requests DEFAULT VALUES`, `TRUNCATE requests`,
		},
		"api": {
			`INSERT INTO api_keys DEFAULT VALUES`, `UPDATE api_keys SET admin = true`, `SELECT sealed FROM batch_keys`, `SELECT secret FROM webhooks`,
			`UPDATE models SET upstream_url = 'http://elsewhere'`, `UPDATE models SET upstream_key = NULL`, `DELETE FROM batches`, `UPDATE daemons SET status = 'dead'`,
		},
		"operator": {
			`SELECT body FROM templates`, `SELECT * FROM results`, `SELECT * FROM requests`, `UPDATE batches SET status = 'completed'`, `DELETE FROM api_keys`,
			`UPDATE api_keys SET admin = true`, `INSERT INTO daemons DEFAULT VALUES`,
		},
		"monitor": {
			`SELECT metadata FROM batches`, `SELECT body FROM templates`, `SELECT * FROM results`, `SELECT * FROM requests`, `SELECT * FROM files`,
			`SELECT hash FROM api_keys`, `SELECT * FROM models`, `UPDATE users SET weight = 9`, `UPDATE batches SET priority = 9`,
		},
	} {
		for _, statement := range statements {
			err := execute(s.t.Context(), s.databaseURL(role), statement)
			var refused *pgconn.PgError
			if !errors.As(err, &refused) || refused.Code != "42501" {
				s.t.Errorf("%s as %s: %v, want it to lack the privilege", statement, role, err)
			}
		}
	}
	for role, subjects := range map[string][]string{
		"dispatcher": {"$JS.API.STREAM.DELETE.REQUESTS", "$JS.API.CONSUMER.MSG.NEXT.REQUESTS.plain", "$JS.ACK.REQUESTS.plain.1.1.1.1.1", "$KV.RATES.x", "$KV.HOLDS.x", "$SYS.REQ.SERVER.PING"},
		"consumer": {
			"fusillade.requests.plain.x.1", "$JS.API.STREAM.DELETE.REQUESTS", "$JS.API.STREAM.PURGE.REQUESTS", "$JS.API.STREAM.MSG.DELETE.REQUESTS",
			"$JS.API.CONSUMER.CREATE.REQUESTS.mine", "$JS.API.CONSUMER.DELETE.REQUESTS.plain", "fusillade.hints.cancel.x", "_INBOX.api.x",
		},
		"api": {
			"fusillade.requests.plain.x.1", "$KV.SLOTS.plain", "$KV.DAEMONS.x", "$JS.API.STREAM.UPDATE.REQUESTS", "$JS.API.STREAM.DELETE.REQUESTS",
			"$JS.API.CONSUMER.MSG.NEXT.REQUESTS.plain", "$JS.API.DIRECT.GET.REQUESTS.fusillade.requests.plain.>", "$JS.API.STREAM.MSG.GET.REQUESTS",
		},
		"operator": {"fusillade.requests.plain.x.1", "$KV.SLOTS.plain", "$JS.API.STREAM.PURGE.REQUESTS", "$JS.API.STREAM.DELETE.REQUESTS", "$JS.API.CONSUMER.MSG.NEXT.REQUESTS.plain"},
	} {
		for _, subject := range subjects {
			if err := s.tryNATS(role, func(conn *nats.Conn) error { return conn.Publish(subject, nil) }); !errors.Is(err, nats.ErrPermissionViolation) {
				s.t.Errorf("publishing to %s as %s: %v, want a violation", subject, role, err)
			}
		}
		for _, pattern := range []string{">", "_INBOX.>", "_INBOX.other.>", "fusillade.requests.>", "$JS.ACK.>", "$KV.SLOTS.>"} {
			if err := s.tryNATS(role, func(conn *nats.Conn) error {
				_, err := conn.SubscribeSync(pattern)
				return err
			}); !errors.Is(err, nats.ErrPermissionViolation) {
				s.t.Errorf("subscribing to %s as %s: %v, want a violation", pattern, role, err)
			}
		}
	}
	s.wantStrangersKeptOut()
}

// tryNATS does something as a role, and returns what the server says of it.
func (s *secured) tryNATS(role string, do func(*nats.Conn) error) error {
	s.t.Helper()
	said := make(chan error, 10)
	own := s.pki.certificate(role, "")
	conn, err := nats.Connect(s.broker, nats.UserInfo(role, password(role)), nats.RootCAs(s.pki.file), nats.ClientCert(own.cert, own.key),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { said <- err }))
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := errors.Join(do(conn), conn.FlushTimeout(testenv.Patience)); err != nil {
		return err
	}
	select {
	case err := <-said:
		return err
	case <-time.After(testenv.Patience):
		return nil
	}
}

// wantStrangersKeptOut connects without a certificate, with one of another
// authority, and without TLS.
func (s *secured) wantStrangersKeptOut() {
	s.t.Helper()
	stranger := newAuthority(s.t).certificate("fusillade_consumer", "")
	for name, options := range map[string][]nats.Option{
		"without a certificate":           {nats.RootCAs(s.pki.file)},
		"with another authority's":        {nats.RootCAs(s.pki.file), nats.ClientCert(stranger.cert, stranger.key)},
		"without a check of the server's": {nats.Secure(&tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})},
	} {
		conn, err := nats.Connect(s.broker, append(options, nats.UserInfo("consumer", password("consumer")))...)
		if err == nil {
			conn.Close()
			s.t.Errorf("NATS takes a connection %s", name)
		}
	}
	for name, query := range map[string]string{
		"without TLS":              "sslmode=disable",
		"without a certificate":    "sslmode=verify-full&sslrootcert=" + s.pki.file,
		"with another authority's": fmt.Sprintf("sslmode=verify-full&sslrootcert=%s&sslcert=%s&sslkey=%s", s.pki.file, stranger.cert, stranger.key),
		"with another role's": fmt.Sprintf("sslmode=verify-full&sslrootcert=%s&sslcert=%s&sslkey=%s", s.pki.file,
			s.pki.certificate("fusillade_api", "").cert, s.pki.certificate("fusillade_api", "").key),
	} {
		if err := execute(s.t.Context(), "postgres://fusillade_consumer@"+s.database+"/fusillade?"+query, "SELECT"); err == nil {
			s.t.Errorf("Postgres takes a connection %s", name)
		}
	}
}
