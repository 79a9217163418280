package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

const (
	downloadVersion = embeddedpostgres.V17
	downloadMajor   = 17
	// downloadLimit bounds the fetching and unpacking of about 15 MB.
	downloadLimit = 5 * time.Minute
)

// downloadBinaries returns the server kept in cfg.CacheDir, which it downloads
// at the first call.
func downloadBinaries(ctx context.Context, cfg PostgresConfig) (binaries, error) {
	home := filepath.Join(cfg.CacheDir, "postgres-"+string(downloadVersion))
	if b, err := inspectBinaries(ctx, filepath.Join(home, "bin")); err == nil {
		return b, nil
	}
	cfg.Log.Info("downloading Postgres", slog.String("version", string(downloadVersion)), slog.String("dir", home))
	if err := download(ctx, cfg, home); err != nil {
		return binaries{}, fmt.Errorf("downloading Postgres %s: %w", downloadVersion, err)
	}
	b, err := inspectBinaries(ctx, filepath.Join(home, "bin"))
	if err != nil {
		return b, fmt.Errorf("running the Postgres downloaded to %s: %w", home, err)
	}
	return b, nil
}

func download(ctx context.Context, cfg PostgresConfig, home string) error {
	if err := os.MkdirAll(cfg.CacheDir, 0o755); err != nil {
		return explainDisk(cfg.CacheDir, err)
	}
	// Unpacked beside its place and moved there when complete: a download that
	// was cut off leaves nothing that looks like a server.
	tmp, err := os.MkdirTemp(cfg.CacheDir, "download-*")
	if err != nil {
		return explainDisk(cfg.CacheDir, err)
	}
	tmpBin := filepath.Join(tmp, "postgres")

	ctx, cancel := context.WithTimeout(ctx, downloadLimit)
	defer cancel()
	// The library's download takes no context. When ctx ends first, fetch is
	// left to end with its connection and cleans up after itself.
	done := make(chan error, 1)
	go func() {
		err := fetch(cfg, tmp, tmpBin)
		if err == nil {
			err = install(tmpBin, home)
		}
		done <- errors.Join(explainDisk(cfg.CacheDir, err), os.RemoveAll(tmp))
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// fetch downloads and unpacks the server into dir, using work for the rest.
//
// The library would also create and start a cluster: with a TCP port, as our own
// user (which Postgres refuses when that is root), and without a tie to our
// life. So it is handed a data directory that looks initialised and cannot
// start, and its error is ignored once it got that far.
func fetch(cfg PostgresConfig, work, dir string) error {
	data := filepath.Join(work, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), fmt.Appendln(nil, downloadMajor), 0o600); err != nil {
		return err
	}
	// The library makes this directory once all is unpacked, just before it
	// starts the server.
	unpacked := filepath.Join(work, "runtime")
	library := embeddedpostgres.DefaultConfig().
		Version(downloadVersion).
		CachePath(work).
		RuntimePath(unpacked).
		BinariesPath(dir).
		DataPath(data).
		Port(0).
		Logger(io.Discard)
	if cfg.DownloadURL != "" {
		library = library.BinaryRepositoryURL(cfg.DownloadURL)
	}
	server := embeddedpostgres.NewDatabase(library)
	err := server.Start()
	if err == nil {
		return errors.Join(errors.New("a server started on an empty data directory"), server.Stop())
	}
	if _, statErr := os.Stat(unpacked); statErr != nil {
		return err
	}
	return nil
}

// install moves a complete server to its place. Whoever else did so first wins.
func install(from, to string) error {
	// Readable by the user that the server will run as.
	if err := os.Chmod(from, 0o755); err != nil {
		return err
	}
	err := os.Rename(from, to)
	if _, statErr := os.Stat(filepath.Join(to, "bin", "postgres")); err != nil && statErr == nil {
		return nil
	}
	return err
}
