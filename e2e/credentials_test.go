package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/jwt/v2"
	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"fusillade/internal/mock"
)

// The roles show NATS a key of their own, or a JWT that their account signed, with
// the permissions of deploy/nats.
func TestNATSCredentials(t *testing.T) {
	t.Parallel()
	for setting, users := range map[string]func(*testing.T) (config string, files map[string]string){
		"FUSILLADE_NATS_NKEY": nkeyUsers, "FUSILLADE_NATS_CREDS": jwtUsers,
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			config, files := users(t)
			s := newSecured(t, config)
			c := s.cluster(mock.Settings{})
			as := func(role string) *cluster { return s.as(c, role, setting+"="+files[role]) }
			as("dispatcher").start("dispatcher")
			as("consumer").start("consumer")
			as("operator").run("owners", "set", "local", "--weight", "2")
			api := as("api")
			api.serveAPI()
			id := create(api, requests(t, 60, "a", "b"))
			if b := c.awaitEnd(id); b.Counts.Completed != 60 {
				t.Errorf("counts are %+v, want all completed", b.Counts)
			}
			c.check(id)
			s.wantNothingRefused()

			// Another role's certificate and no credentials are not enough.
			for name, without := range map[string]*cluster{"none": s.as(c, "consumer"), "a stranger's": s.as(c, "consumer", setting+"="+files["stranger"])} {
				p := without.start("consumer")
				poll(t, "NATS refuses credentials of "+name, func() bool { return strings.Contains(p.Log(), "Authorization") })
				p.Kill()
			}
		})
	}
}

// nkeyUsers are the users of server.conf with keys in place of passwords.
func nkeyUsers(t *testing.T) (config string, files map[string]string) {
	t.Helper()
	config, files = natsUsers(t), make(map[string]string)
	for _, role := range append(roles, "stranger") {
		key, seed := newKey(t, nkeys.CreateUser)
		files[role] = private(t, role+".nk", string(seed))
		config = strings.Replace(config, fmt.Sprintf("user: %s, password: %s", role, password(role)), "nkey: "+publicKey(t, key), 1)
	}
	if strings.Contains(config, "{ user: ") {
		t.Fatalf("users have passwords still:\n%s", config)
	}
	return config, files
}

// jwtUsers are users of an account of an operator. Each role has a signing key of
// its own, which bears the permissions that the role has in server.conf: in the
// users' own tokens they would be longer than a line that a client may send.
func jwtUsers(t *testing.T) (config string, files map[string]string) {
	t.Helper()
	operator, _ := newKey(t, nkeys.CreateOperator)
	account, _ := newKey(t, nkeys.CreateAccount)
	system, _ := newKey(t, nkeys.CreateAccount)
	options, err := natsserver.ProcessConfigFile(private(t, "users.conf", natsUsers(t)))
	if err != nil {
		t.Fatal(err)
	}
	claims := jwt.NewAccountClaims(publicKey(t, account))
	claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit}
	files = make(map[string]string)
	for _, u := range options.Users {
		signer, _ := newKey(t, nkeys.CreateAccount)
		scope := jwt.NewUserScope()
		scope.Key, scope.Role = publicKey(t, signer), u.Username
		scope.Template.Pub.Allow, scope.Template.Sub.Allow, scope.Template.Sub.Deny = u.Permissions.Publish.Allow, u.Permissions.Subscribe.Allow, u.Permissions.Subscribe.Deny
		claims.SigningKeys.AddScopedSigner(scope)
		files[u.Username] = credentials(t, u.Username, publicKey(t, account), signer)
	}
	unknown, _ := newKey(t, nkeys.CreateAccount)
	files["stranger"] = credentials(t, "stranger", publicKey(t, account), unknown)
	ofOperator := jwt.NewOperatorClaims(publicKey(t, operator))
	ofOperator.SystemAccount = publicKey(t, system)
	return fmt.Sprintf("operator: %s\nresolver: MEMORY\nresolver_preload: {\n  %s: %s\n  %s: %s\n}\n",
		encode(t, ofOperator, operator), publicKey(t, account), encode(t, claims, operator),
		publicKey(t, system), encode(t, jwt.NewAccountClaims(publicKey(t, system)), operator)), files
}

// credentials writes a file with a user's JWT and seed.
func credentials(t *testing.T, name, account string, signer nkeys.KeyPair) string {
	t.Helper()
	user, seed := newKey(t, nkeys.CreateUser)
	claims := jwt.NewUserClaims(publicKey(t, user))
	claims.Name, claims.IssuerAccount = name, account
	claims.SetScoped(true)
	file, err := jwt.FormatUserConfig(encode(t, claims, signer), seed)
	if err != nil {
		t.Fatal(err)
	}
	return private(t, name+".creds", string(file))
}

func newKey(t *testing.T, create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, []byte) {
	t.Helper()
	key, err := create()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := key.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return key, seed
}

func publicKey(t *testing.T, key nkeys.KeyPair) string {
	t.Helper()
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return public
}

func encode(t *testing.T, claims interface {
	Encode(nkeys.KeyPair) (string, error)
}, signer nkeys.KeyPair) string {
	t.Helper()
	token, err := claims.Encode(signer)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// private writes a file that nobody else reads.
func private(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
