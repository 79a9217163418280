package main

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// cycloneDX is the media type of a list, and the kind of the artifact.
const cycloneDX = "application/vnd.cyclonedx+json"

// bomOf is an artifact with the list of each program, which refers to the image.
func bomOf(dir string, image v1.Descriptor) (v1.Image, error) {
	files, err := filepath.Glob(dir + "/*.cdx.json")
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, errors.New("there is none in " + dir + "; make images writes them")
	}
	bom := mutate.MediaType(mutate.ConfigMediaType(empty.Image, cycloneDX), types.OCIManifestSchema1)
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		name := filepath.Base(file)
		if program := dir + "/bin/" + strings.TrimSuffix(name, ".cdx.json"); !exists(program) {
			return nil, errors.New(file + " is of no program: there is no " + program)
		}
		bom, err = mutate.Append(bom, mutate.Addendum{
			Layer:       static.NewLayer(content, cycloneDX),
			Annotations: map[string]string{"org.opencontainers.image.title": name},
		})
		if err != nil {
			return nil, err
		}
	}
	image.Platform = nil
	return mutate.Subject(bom, image).(v1.Image), nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func sorted(files map[string]string) []string { return slices.Sorted(maps.Keys(files)) }
