package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// downloadLimit bounds the fetching and unpacking of about 15 MB.
const downloadLimit = 5 * time.Minute

// release is a build of Postgres to download.
type release struct {
	version string
	major   int
	sums    map[string]string // SHA-256 of the archive, by platform
}

// published is the release of https://github.com/zonkyio/embedded-postgres-binaries
// that is used. The sums are pinned here: a mirror that was tampered with is no
// way in.
var published = release{version: "17.5.0", major: 17, sums: map[string]string{
	"linux-amd64":        "646f3269075d1a23904127374e3cdbcef96beb32979fedee25d835877400fcbe",
	"linux-arm64v8":      "e02f27ff50ff2d90b6541d54f3f108505aacd84ea53c2890e976a684bfea2752",
	"linux-amd64-alpine": "7122386c7f7a089568f05720ada63448093d4065abbc0a89e6dc660851a53e3c",
	"darwin-amd64":       "fb70f783928e77c3d6ef5ca8ed644f1ac502f740fcfc032a375c8347820f2bdd",
	"darwin-arm64v8":     "e9d3398e10c2ec926395498b03e75ad1a24eeaed82895e756a7e173b202cf6de",
}}

// others are releases of other versions, for who asks for one.
var others = []release{
	{version: "14.23.0", major: minMajor, sums: map[string]string{
		"linux-amd64":    "d041b87dd72016f2baf93bca54e91d3c85c2b8132bbf86ad82056d6b24b353ce",
		"linux-arm64v8":  "a55b93f67051a602be033b298461709f88789dccee925236f2fb5a4eaf9dd526",
		"darwin-arm64v8": "b3afa06270a5db96748ded366b9af590b29035ce16677e88c8ab65d0c455f613",
	}},
	{version: "18.6.0", major: 18, sums: map[string]string{
		"linux-amd64":        "008ee189eaa7ca2b58bd01dd950291e638b998392cf982297acd4779ec898ac1",
		"linux-arm64v8":      "5f54e016723afa6213925a8acb939bac52944b1d348f65c7a20f0cd2928c31be",
		"linux-amd64-alpine": "1568b3805c3a3b99b5f4f0d7f6cf16e2a39075462ed47a614bfbabd92508350d",
		"darwin-amd64":       "690941008aac9ee360820fde9bb7870a4f3dcac5e9e2f9e45e42333a436ad0f9",
		"darwin-arm64v8":     "8f6ed6f38195b50a40712ada8b2a12060b6193c1a6977a6eb5cff053bb5a1b89",
	}},
}

// releaseOf returns the release of a major version; 0: the one that is used where
// nobody asks for another.
func releaseOf(major int) (r release, known bool) {
	if major == 0 || major == published.major {
		return published, true
	}
	for _, r := range others {
		if r.major == major {
			return r, true
		}
	}
	return release{}, false
}

// platform names this machine as the published archives do.
func platform() string {
	name := runtime.GOOS + "-" + runtime.GOARCH
	if runtime.GOARCH == "arm64" {
		name += "v8"
	}
	if _, err := os.Stat("/etc/alpine-release"); err == nil {
		name += "-alpine"
	}
	return name
}

// url is where the archive is in a Maven repository.
func (r release) url(repository, platform string) string {
	name := "embedded-postgres-binaries-" + platform
	return fmt.Sprintf("%s/io/zonky/test/postgres/%s/%s/%s-%s.jar", repository, name, r.version, name, r.version)
}

// downloadBinaries returns the server kept in cfg.CacheDir, which it downloads
// at the first call.
func downloadBinaries(ctx context.Context, cfg PostgresConfig, r release) (binaries, error) {
	home := filepath.Join(cfg.CacheDir, "postgres-"+r.version)
	if b, err := inspectBinaries(ctx, filepath.Join(home, "bin")); err == nil {
		return b, nil
	}
	cfg.Log.Info("downloading Postgres", slog.String("version", r.version), slog.String("dir", home))
	if err := r.download(ctx, cfg, home); err != nil {
		return binaries{}, fmt.Errorf("downloading Postgres %s: %w", r.version, err)
	}
	b, err := inspectBinaries(ctx, filepath.Join(home, "bin"))
	if err != nil {
		return b, fmt.Errorf("running the Postgres downloaded to %s: %w", home, err)
	}
	return b, nil
}

func (r release) download(ctx context.Context, cfg PostgresConfig, home string) (err error) {
	ctx, cancel := context.WithTimeout(ctx, downloadLimit)
	defer cancel()
	here := platform()
	sum, known := r.sums[here]
	if !known {
		return fmt.Errorf("there is no build for %s", here)
	}
	archive, err := fetchArchive(ctx, r.url(cmp.Or(cfg.DownloadURL, mavenCentral), here), sum)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.CacheDir, 0o755); err != nil {
		return explainDisk(cfg.CacheDir, err)
	}
	// Unpacked beside its place and moved there when complete: a download that
	// was cut off leaves nothing that looks like a server.
	unpacked, err := os.MkdirTemp(cfg.CacheDir, "download-*")
	if err != nil {
		return explainDisk(cfg.CacheDir, err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(unpacked)) }()
	if err := unpackArchive(ctx, archive, unpacked); err != nil {
		return explainDisk(cfg.CacheDir, err)
	}
	return install(unpacked, home)
}

// install moves a complete server to its place. A process that did so first wins.
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
