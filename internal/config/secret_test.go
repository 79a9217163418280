package config

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

// No way of printing, logging or marshalling settings shows a secret.
func TestSecretsAreNotShown(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	var cfg Standalone
	key := strings.Repeat(secret+"!", 4)
	for _, err := range []error{
		cfg.Postgres.URL.Set("postgres://u:" + secret + "@db/x?password=" + secret),
		cfg.NATS.URL.Set("nats://" + secret + "@a,tls://u:" + secret + "@b"),
		cfg.Upstream.URL.Set("https://u:" + secret + "@host?key=" + secret),
		cfg.Upstream.APIKey.Set(secret),
		cfg.Upstream.Proxy.Set("http://u:" + secret + "@proxy:3128"),
		cfg.Upstream.Headers.Set("X-Secret=" + secret),
		cfg.Upstream.Models.Set(`{"a":{"url":"https://u:` + secret + `@host","api_key":"` + secret + `","headers":{"X-Secret":"` + secret + `"}}}`),
		cfg.Encryption.Key.Set(hex.EncodeToString([]byte(key))),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	hidden := struct{ key Secret }{cfg.Upstream.APIKey}
	values := []any{cfg, &cfg, hidden, &hidden, Snapshot(&cfg), []any{cfg}, cfg.Upstream.APIKey, cfg.Postgres.URL, cfg.NATS.URL, cfg.Encryption.Key, cfg.Upstream.Models, cfg.Upstream.Headers, cfg.Upstream.Models["a"]}
	var shown bytes.Buffer
	for _, format := range []slog.Handler{slog.NewJSONHandler(&shown, nil), slog.NewTextHandler(&shown, nil)} {
		for _, value := range values {
			slog.New(format).Info("settings", "value", value)
		}
	}
	for _, value := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			_, _ = fmt.Fprintf(&shown, verb+"\n", value)
		}
		encoded, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		shown.Write(encoded)
	}
	for _, form := range []string{secret, hex.EncodeToString([]byte(secret)), base64.StdEncoding.EncodeToString([]byte(key))} {
		if at := strings.Index(shown.String(), form); at >= 0 {
			t.Errorf("shows %q: …%s…", form, shown.String()[max(0, at-200):at+20])
		}
	}
	if !strings.Contains(shown.String(), redacted) {
		t.Error("shows no mask either")
	}
	if cfg.Upstream.APIKey.Reveal() != secret || string(cfg.Encryption.Key.All()[0]) != key {
		t.Error("does not reveal the secret to who asks for it")
	}
}

func TestSecretUnset(t *testing.T) {
	t.Parallel()
	var secret Secret
	var key EncryptionKeys
	if secret.IsSet() || secret.Reveal() != "" || secret.String() != "" || len(key.All()) != 0 {
		t.Errorf("an unset secret is %q", secret.Reveal())
	}
}

func TestEncryptionKeys(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{0xfb, 0xff, 1, 2}, 8) // has - and _ or + and / in base64
	for _, text := range []string{
		hex.EncodeToString(key), strings.ToUpper(hex.EncodeToString(key)),
		base64.StdEncoding.EncodeToString(key), base64.RawStdEncoding.EncodeToString(key),
		base64.URLEncoding.EncodeToString(key), base64.RawURLEncoding.EncodeToString(key),
	} {
		var got EncryptionKeys
		if err := got.Set(text); err != nil || !slices.EqualFunc(got.All(), [][]byte{key}, bytes.Equal) {
			t.Errorf("Set(%q): %x, %v", text, got.All(), err)
		}
		other := bytes.Repeat([]byte{7}, encryptionKeyBytes)
		for _, comma := range []string{",", ", "} {
			both := text + comma + hex.EncodeToString(other)
			if err := got.Set(both); err != nil || !slices.EqualFunc(got.All(), [][]byte{key, other}, bytes.Equal) {
				t.Errorf("Set(%q): %x, %v", both, got.All(), err)
			}
		}
	}
	for _, text := range []string{"short", hex.EncodeToString(key[1:]), hex.EncodeToString(append(key, 0)), hex.EncodeToString(key) + ",", "," + hex.EncodeToString(key), hex.EncodeToString(key) + " " + hex.EncodeToString(key), base64.StdEncoding.EncodeToString(key[1:]), strings.Repeat("!", 32)} {
		if err := new(EncryptionKeys).Set(text); err == nil {
			t.Errorf("Set(%q) took it", text)
		}
	}
}

func TestDatabaseURL(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "postgres://db/x", "postgresql://u:p%2F@db:5432/x?sslmode=require", "postgres://a:1,b:2/x", "postgres:///x?host=/run/postgresql",
	} {
		var got DatabaseURL
		if err := got.Set(text); err != nil || got.Reveal() != text {
			t.Errorf("Set(%q): %q, %v", text, got.Reveal(), err)
		}
	}
}

func TestLoggerFormats(t *testing.T) {
	t.Parallel()
	tests := []struct {
		format LogFormat
		want   string
	}{
		{JSON, `"level":"INFO","msg":"stopped","drain":"1.5s"}`},
		{"", `"level":"INFO","msg":"stopped","drain":"1.5s"}`},
		{Text, "level=INFO msg=stopped drain=1.5s"},
	}
	for _, tt := range tests {
		var out bytes.Buffer
		log := NewLogger(Logging{Format: tt.format}, &out)
		log.Debug("routine")
		log.Info("stopped", "drain", Milliseconds(1.5e9).Duration())
		if strings.Contains(out.String(), "routine") || !strings.Contains(out.String(), tt.want) {
			t.Errorf("%q: %s, want %s", tt.format, out.String(), tt.want)
		}
	}
}
