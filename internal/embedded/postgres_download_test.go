//go:build unix

package embedded

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// repository serves the archive in testdata as any version of Postgres, and
// counts the requests.
func repository(t *testing.T, corrupt bool) (url string, requests *atomic.Int64) {
	t.Helper()
	archive, err := os.ReadFile(filepath.Join("testdata", "postgres.txz"))
	if err != nil {
		t.Fatal(err)
	}
	var jar bytes.Buffer
	zw := zip.NewWriter(&jar)
	w, err := zw.Create("postgres.txz")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(archive); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(jar.Bytes()))
	if corrupt {
		sum = strings.Repeat("0", len(sum))
	}
	requests = new(atomic.Int64)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		body := jar.Bytes()
		if strings.HasSuffix(r.URL.Path, ".sha256") {
			body = []byte(sum)
		}
		if _, err := w.Write(body); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv.URL, requests
}

func TestDownload(t *testing.T) {
	t.Parallel()
	url, requests := repository(t, false)
	cfg := PostgresConfig{CacheDir: filepath.Join(t.TempDir(), "cache"), DownloadURL: url, Log: slog.New(slog.DiscardHandler)}
	for range 2 {
		b, err := downloadBinaries(testContext(t), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if b.major != downloadMajor {
			t.Errorf("downloaded Postgres %s, want %d", b.version, downloadMajor)
		}
	}
	if got := requests.Load(); got != 2 {
		t.Errorf("%d requests for two starts, want 2: the archive and its checksum", got)
	}
	entries, err := os.ReadDir(cfg.CacheDir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the cache holds %v, %v; want the server alone", entries, err)
	}
	home := filepath.Join(cfg.CacheDir, entries[0].Name())
	if info, err := os.Stat(home); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode of %s = %v, %v; want 0755", home, info.Mode(), err)
	}
}

func TestDownloadFails(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(gone.Close)
	corrupt, _ := repository(t, true)
	for name, tt := range map[string]struct{ url, want string }{
		"no such version": {gone.URL, "no version found"},
		"corrupt":         {corrupt, "checksums do not match"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := PostgresConfig{CacheDir: t.TempDir(), DownloadURL: tt.url, Log: slog.New(slog.DiscardHandler)}
			if _, err := downloadBinaries(testContext(t), cfg); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("downloadBinaries = %v, want %q", err, tt.want)
			}
			if entries, err := os.ReadDir(cfg.CacheDir); err != nil || len(entries) != 0 {
				t.Errorf("a failed download left %v, %v", entries, err)
			}
		})
	}
}
