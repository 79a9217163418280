package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

var programs = []string{"api", "consumer", "dispatcher", "fusillade"}

// fill writes what `make images` has built, at a time and with a mode.
func fill(t *testing.T, content string, at time.Time, mode os.FileMode) string {
	t.Helper()
	dist := t.TempDir()
	for _, arch := range []string{"amd64", "arm64"} {
		files := map[string]string{"ca-certificates.crt": "authorities"}
		for _, name := range programs {
			files["bin/"+name] = content + name + arch
			files[name+".cdx.json"] = `{"bomFormat":"CycloneDX","name":"` + name + `"}`
		}
		for name, text := range files {
			path := filepath.Join(dist, "linux-"+arch, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode), os.Chtimes(path, at, at)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dist
}

func build(t *testing.T, dist string) (string, v1.Hash) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "image")
	digest, err := write(out, dist, []string{"amd64", "arm64"}, "1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	return out, digest
}

// The same files give the same layout, whatever their times and modes; others give
// another.
func TestReproducible(t *testing.T) {
	t.Parallel()
	one, a := build(t, fill(t, "program", time.Unix(1_000_000_000, 0), 0o600))
	two, b := build(t, fill(t, "program", time.Unix(1_700_000_000, 0), 0o755))
	if a != b {
		t.Errorf("%v and %v of the same files", a, b)
	}
	if got, want := tree(t, one), tree(t, two); !slices.Equal(got, want) {
		t.Errorf("layouts differ:\n%q\n%q", got, want)
	}
	if _, c := build(t, fill(t, "other", time.Unix(1_000_000_000, 0), 0o600)); c == a {
		t.Errorf("%v of other files", c)
	}
}

// tree is each file of a directory with its content.
func tree(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		all = append(all, strings.TrimPrefix(path, dir)+" "+string(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestLayout(t *testing.T) {
	t.Parallel()
	out, digest := build(t, fill(t, "program", time.Now(), 0o644))
	root, err := layout.ImageIndexFromPath(out)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := root.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if first := manifest.Manifests[0]; first.Digest != digest || first.Annotations[refName] != "1.2.3" {
		t.Errorf("the layout has %+v", first)
	}
	index, err := root.ImageIndex(digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	images, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	refers := make(map[v1.Hash]int)
	for _, other := range manifest.Manifests[1:] {
		bom, err := root.Image(other.Digest)
		if err != nil {
			t.Fatal(err)
		}
		m, err := bom.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		if m.Config.MediaType != cycloneDX || other.ArtifactType != cycloneDX || m.Subject == nil {
			t.Fatalf("no list of modules: %+v", m)
		}
		refers[m.Subject.Digest] = len(m.Layers)
	}
	for i, arch := range []string{"amd64", "arm64"} {
		of := images.Manifests[i]
		if of.Platform.String() != "linux/"+arch || of.ArtifactType != "" || refers[of.Digest] != len(programs) {
			t.Errorf("%v has %d lists of modules, want linux/%s and %d", of.Platform, refers[of.Digest], arch, len(programs))
		}
		image, err := index.Image(of.Digest)
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, image, arch)
	}
}

func checkImage(t *testing.T, image v1.Image, arch string) {
	t.Helper()
	c, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if c.Architecture != arch || c.OS != "linux" || !c.Created.Equal(epoch) || c.Config.Labels["org.opencontainers.image.version"] != "1.2.3" {
		t.Errorf("%s: %+v", arch, c)
	}
	files := mutate.Extract(image)
	defer files.Close()
	var got []string
	for r := tar.NewReader(files); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || !h.ModTime.Equal(epoch) {
			t.Errorf("%s: %+v", arch, h)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%s %o %s", strings.TrimSuffix(h.Name, "/"), h.Mode, content))
	}
	slices.Sort(got)
	want := []string{"bin 755 ", "etc 755 ", "etc/ssl 755 ", "etc/ssl/certs 755 ", "etc/ssl/certs/ca-certificates.crt 644 authorities"}
	for _, name := range programs {
		want = append(want, "bin/"+name+" 755 program"+name+arch)
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%s holds\n%q, want\n%q", arch, got, want)
	}
}

// The Dockerfile makes the same image, for one machine.
func TestDockerfile(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for instruction, want := range map[string]string{
		"ENTRYPOINT": fmt.Sprintf("%q", config.Entrypoint), "ENV": strings.Join(config.Env, " "), "USER": config.User, "FROM": "scratch",
		"COPY": "${DIST}/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt",
	} {
		found := regexp.MustCompile(`(?m)^` + instruction + ` (.*)$`).FindSubmatch(raw)
		if found == nil || string(found[1]) != want {
			t.Errorf("%s is %q, want %q", instruction, found, want)
		}
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	dist := fill(t, "program", time.Now(), 0o644)
	out := filepath.Join(t.TempDir(), "image")
	for _, breaks := range []func() error{
		func() error { return os.Remove(dist + "/linux-arm64/bin/api") },
		func() error { return os.RemoveAll(dist + "/linux-arm64/bin") },
		func() error { return os.RemoveAll(dist + "/linux-arm64") },
	} {
		if err := breaks(); err != nil {
			t.Fatal(err)
		}
		if _, err := write(out, dist, []string{"amd64", "arm64"}, "1"); err == nil || !strings.Contains(err.Error(), "arm64") {
			t.Errorf("%v, want an error about arm64", err)
		}
	}
	if _, err := write(out, dist, nil, "1"); err == nil {
		t.Error("it writes an image for nothing")
	}
}
