package embedded

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"

	"github.com/xi2/xz"
)

const (
	mavenCentral = "https://repo1.maven.org/maven2"
	// Bounds of what a published archive may be: one is 15 MB, and 60 MB unpacked.
	maxArchiveBytes  = 128 << 20
	maxUnpackedBytes = 1 << 30
)

// fetchArchive returns the archive at url, whose SHA-256 must be sum.
func fetchArchive(ctx context.Context, url, sum string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answered with status %s", req.URL.Redacted(), resp.Status)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxArchiveBytes+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", req.URL.Redacted(), err)
	}
	if len(raw) > maxArchiveBytes {
		return nil, fmt.Errorf("%s is larger than %d bytes", req.URL.Redacted(), maxArchiveBytes)
	}
	if got := sha256.Sum256(raw); hex.EncodeToString(got[:]) != sum {
		return nil, fmt.Errorf("%s has the SHA-256 %x, want %s: it is damaged, or not what was published", req.URL.Redacted(), got, sum)
	}
	return raw, nil
}

// unpackArchive unpacks the server in an archive, which is a zip with a .txz in
// it, into dir.
func unpackArchive(ctx context.Context, archive []byte, dir string) error {
	outer, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return fmt.Errorf("unpacking the archive: %w", err)
	}
	for _, f := range outer.File {
		if path.Ext(f.Name) != ".txz" {
			continue
		}
		inner, err := f.Open()
		if err == nil {
			err = errors.Join(unpackTxz(ctx, inner, dir), inner.Close())
		}
		if err != nil {
			return fmt.Errorf("unpacking %s: %w", f.Name, err)
		}
		return nil
	}
	return errors.New("unpacking the archive: it holds no .txz")
}

// unpackTxz writes nothing outside of dir, whatever names the archive has.
func unpackTxz(ctx context.Context, r io.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	plain, err := xz.NewReader(r, 0)
	if err != nil {
		return err
	}
	entries := tar.NewReader(io.LimitReader(plain, maxUnpackedBytes))
	for ctx.Err() == nil {
		entry, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = unpackEntry(root, entry, entries)
		}
		if err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

func unpackEntry(root *os.Root, entry *tar.Header, content io.Reader) error {
	name := path.Clean(entry.Name)
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	switch entry.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o755)
	case tar.TypeSymlink:
		return root.Symlink(entry.Linkname, name)
	case tar.TypeReg:
		f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fs.FileMode(entry.Mode).Perm())
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content)
		return errors.Join(err, f.Close())
	}
	return fmt.Errorf("%s is of the kind %q, which a server does not need", entry.Name, entry.Typeflag)
}
