package main

import (
	"errors"
	"fmt"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// refName is the annotation by which tools know an image of a layout.
const refName = "org.opencontainers.image.ref.name"

// plain is an image and no artifact, which is what an index else says of OCI images.
type plain struct{ v1.Image }

func (plain) ArtifactType() (string, error) { return "", nil }

// write replaces the layout at out, and returns the digest of the image index.
func write(out, dist string, arches []string, version string) (v1.Hash, error) {
	if len(arches) == 0 {
		return v1.Hash{}, errors.New("-arches names no architecture")
	}
	index := v1.ImageIndex(mutate.IndexMediaType(empty.Index, types.OCIImageIndex))
	var boms []v1.Image
	for _, arch := range arches {
		dir := dist + "/linux-" + arch
		image, err := imageOf(dir, arch, version)
		if err != nil {
			return v1.Hash{}, fmt.Errorf("image for %s: %w", arch, err)
		}
		described, err := partial.Descriptor(plain{image})
		if err != nil {
			return v1.Hash{}, err
		}
		described.Platform = &v1.Platform{OS: "linux", Architecture: arch}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: plain{image}, Descriptor: *described})
		bom, err := bomOf(dir, *described)
		if err != nil {
			return v1.Hash{}, fmt.Errorf("list of modules for %s: %w", arch, err)
		}
		boms = append(boms, bom)
	}
	index = mutate.Annotations(index, labels(version)).(v1.ImageIndex)

	if err := os.RemoveAll(out); err != nil {
		return v1.Hash{}, err
	}
	at, err := layout.Write(out, empty.Index)
	if err != nil {
		return v1.Hash{}, err
	}
	if err := at.AppendIndex(index, layout.WithAnnotations(map[string]string{refName: version})); err != nil {
		return v1.Hash{}, err
	}
	for _, bom := range boms {
		if err := at.AppendImage(bom); err != nil {
			return v1.Hash{}, err
		}
	}
	return index.Digest()
}
