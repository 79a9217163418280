//go:build unix

package embedded

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"errors"
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

// testArchive is the archive in testdata as it is published: in a zip.
func testArchive(t *testing.T) []byte {
	t.Helper()
	txz, err := os.ReadFile(filepath.Join("testdata", "postgres.txz"))
	if err != nil {
		t.Fatal(err)
	}
	return zipped(t, "postgres.txz", txz)
}

func zipped(t *testing.T, name string, content []byte) []byte {
	t.Helper()
	var jar bytes.Buffer
	zw := zip.NewWriter(&jar)
	w, err := zw.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return jar.Bytes()
}

// repository serves an archive as any version of Postgres, and counts the
// requests.
func repository(t *testing.T, archive []byte) (url string, requests *atomic.Int64) {
	t.Helper()
	requests = new(atomic.Int64)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		if want := published.url("", platform()); r.URL.Path != want {
			t.Errorf("asked for %s, want %s", r.URL.Path, want)
		}
		if _, err := w.Write(archive); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL, requests
}

// of is the published release, if the archive were it.
func of(archive []byte) release {
	r := published
	r.sums = map[string]string{platform(): fmt.Sprintf("%x", sha256.Sum256(archive))}
	return r
}

func TestDownload(t *testing.T) {
	t.Parallel()
	archive := testArchive(t)
	url, requests := repository(t, archive)
	cfg := PostgresConfig{CacheDir: filepath.Join(t.TempDir(), "cache"), DownloadURL: url, Log: slog.New(slog.DiscardHandler)}
	for range 2 {
		b, err := downloadBinaries(testContext(t), cfg, of(archive))
		if err != nil {
			t.Fatal(err)
		}
		if b.major != published.major {
			t.Errorf("downloaded Postgres %s, want %d", b.version, published.major)
		}
	}
	if got := requests.Load(); got != 1 {
		t.Errorf("%d requests for two starts, want 1", got)
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

// A download that fails names its cause and no password, and leaves nothing.
func TestDownloadFails(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(gone.Close)
	archive := testArchive(t)
	url, _ := repository(t, archive)
	noServer := zipped(t, "README", []byte("nothing"))
	noServerURL, _ := repository(t, noServer)
	noTxz := zipped(t, "postgres.txz", []byte("nothing"))
	noTxzURL, _ := repository(t, noTxz)
	for name, tt := range map[string]struct {
		url     string
		release release
		want    string
	}{
		"no such version": {gone.URL, of(archive), "404"},
		"damaged":         {url, published, "SHA-256"},
		"no such build":   {url, release{version: "17.5.0"}, "no build for " + platform()},
		"no server in it": {noServerURL, of(noServer), "holds no .txz"},
		"no txz":          {noTxzURL, of(noTxz), "postgres.txz"},
		"nobody listens":  {"http://127.0.0.1:1", of(archive), "127.0.0.1:1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const secret = "s3cr3t"
			cfg := PostgresConfig{
				CacheDir: t.TempDir(), DownloadURL: strings.Replace(tt.url, "://", "://u:"+secret+"@", 1), Log: slog.New(slog.DiscardHandler),
			}
			_, err := downloadBinaries(testContext(t), cfg, tt.release)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), secret) {
				t.Errorf("downloadBinaries = %v, want %q and no password", err, tt.want)
			}
			if entries, err := os.ReadDir(cfg.CacheDir); err != nil || len(entries) != 0 {
				t.Errorf("a failed download left %v, %v", entries, err)
			}
		})
	}
}

// What an archive names is written below the directory, or not at all.
func TestUnpackStaysInItsDirectory(t *testing.T) {
	t.Parallel()
	for name, entries := range map[string][]tar.Header{
		"a name that climbs":     {{Name: "../stolen", Typeflag: tar.TypeReg}},
		"an absolute name":       {{Name: "/tmp/stolen", Typeflag: tar.TypeReg}},
		"through a link":         {{Name: "link", Linkname: "..", Typeflag: tar.TypeSymlink}, {Name: "link/stolen", Typeflag: tar.TypeReg}},
		"a device":               {{Name: "stolen", Typeflag: tar.TypeChar}},
		"a file over another":    {{Name: "a", Typeflag: tar.TypeReg}, {Name: "a", Typeflag: tar.TypeReg}},
		"a file that is a link":  {{Name: "a", Linkname: "../stolen", Typeflag: tar.TypeSymlink}, {Name: "a", Typeflag: tar.TypeReg}},
		"a hard link to outside": {{Name: "a", Linkname: "../stolen", Typeflag: tar.TypeLink}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outside := t.TempDir()
			dir := filepath.Join(outside, "inside")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			err = nil
			for _, entry := range entries {
				err = errors.Join(err, unpackEntry(root, &entry, strings.NewReader("content")))
			}
			if err == nil {
				t.Error("it was unpacked")
			}
			if left, err := os.ReadDir(outside); err != nil || len(left) != 1 {
				t.Errorf("outside are %v, %v", left, err)
			}
		})
	}
}

func TestUnpack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for _, entry := range []tar.Header{
		{Name: "./bin/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./bin/postgres", Typeflag: tar.TypeReg, Mode: 0o4755},
		{Name: "lib/deep/a.so.1", Typeflag: tar.TypeReg, Mode: 0o644},
		{Name: "lib/deep/a.so", Linkname: "a.so.1", Typeflag: tar.TypeSymlink},
	} {
		if err := unpackEntry(root, &entry, strings.NewReader("content")); err != nil {
			t.Errorf("%s: %v", entry.Name, err)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "bin", "postgres")); err != nil || info.Mode() != 0o755 {
		t.Errorf("mode %v, %v of a program", info.Mode(), err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "lib", "deep", "a.so")); err != nil || string(got) != "content" {
		t.Errorf("through a link: %q, %v", got, err)
	}
}
