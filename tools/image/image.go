package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// epoch is the time of everything in an image.
var epoch = time.Unix(0, 0).UTC()

// config is what the Dockerfile says, too.
var config = v1.Config{
	Entrypoint: []string{"fusillade"},
	Env:        []string{"PATH=/bin"},
	User:       "65532:65532",
}

func labels(version string) map[string]string {
	return map[string]string{
		"org.opencontainers.image.title":    "fusillade",
		"org.opencontainers.image.licenses": "Apache-2.0",
		"org.opencontainers.image.version":  version,
	}
}

// imageOf is the image of one architecture: the certificate authorities, which
// change rarely, and the programs.
func imageOf(dir, arch, version string) (v1.Image, error) {
	certificates, err := layer(map[string]string{"etc/ssl/certs/ca-certificates.crt": dir + "/ca-certificates.crt"}, 0o644)
	if err != nil {
		return nil, err
	}
	found, err := filepath.Glob(dir + "/bin/*")
	if err != nil {
		return nil, err
	}
	files := make(map[string]string)
	for _, file := range found {
		files["bin/"+filepath.Base(file)] = file
	}
	programs, err := layer(files, 0o755)
	if err != nil {
		return nil, err
	}
	of := config
	of.Labels = labels(version)
	image := mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1)
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{
		OS: "linux", Architecture: arch, Created: v1.Time{Time: epoch}, Config: of, RootFS: v1.RootFS{Type: "layers"},
	})
	if err != nil {
		return nil, err
	}
	created := v1.History{Created: v1.Time{Time: epoch}, CreatedBy: "make images"}
	return mutate.Append(image, mutate.Addendum{Layer: certificates, History: created}, mutate.Addendum{Layer: programs, History: created})
}

// layer holds files, by their path in the image, and the directories above them.
func layer(files map[string]string, mode int64) (v1.Layer, error) {
	if len(files) == 0 {
		return nil, os.ErrNotExist
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	made := make(map[string]bool)
	for _, name := range sorted(files) {
		if err := directories(w, path.Dir(name), made); err != nil {
			return nil, err
		}
		content, err := os.ReadFile(files[name])
		if err != nil {
			return nil, err
		}
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: mode, ModTime: epoch, Format: tar.FormatUSTAR}); err != nil {
			return nil, err
		}
		if _, err := w.Write(content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.BestCompression), tarball.WithCompressedCaching)
}

// directories writes a directory and those above it, each once.
func directories(w *tar.Writer, dir string, made map[string]bool) error {
	if dir == "." || made[dir] {
		return nil
	}
	if err := directories(w, path.Dir(dir), made); err != nil {
		return err
	}
	made[dir] = true
	return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: epoch, Format: tar.FormatUSTAR})
}
