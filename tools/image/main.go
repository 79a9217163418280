// Command image writes a container image for several architectures as an OCI
// layout, which skopeo, oras and crane push to any registry. The same files give the
// same digest, whenever and wherever it is written: times, owners and modes are
// fixed. Lists of the modules in each program are attached, as what refers to the
// image of their architecture.
//
//	make images VERSION=0.1.0
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
)

func main() {
	var (
		dist    = flag.String("dist", "build", "directory with linux-ARCH, as `make dist` fills it")
		arches  = flag.String("arches", "amd64 arm64", "architectures, separated by spaces")
		version = flag.String("version", "dev", "version, which is also the image's tag in the layout")
		out     = flag.String("out", "build/image", "directory of the layout; what it holds is replaced")
	)
	flag.Parse()
	digest, err := write(*out, *dist, strings.Fields(*arches), *version)
	if err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
	fmt.Printf("%s  %s:%s\n", digest, *out, *version)
}
