// Package compose checks compose.yaml: as Compose itself reads it, and what it
// says of files, ports and services against what there is.
package compose

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

const root = "../.."

// load reads compose.yaml without variables of this environment.
func load(t *testing.T, profiles ...string) *types.Project {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{root + "/compose.yaml"}, cli.WithProfiles(profiles))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func read(t *testing.T, path string) string {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// The profile adds services, and changes none of the others.
func TestProfiles(t *testing.T) {
	t.Parallel()
	without, with := load(t), load(t, "monitoring")
	if got, want := without.ServiceNames(), []string{"api", "consumer", "dispatcher", "migrate", "mock", "nats", "postgres"}; !slices.Equal(got, want) {
		t.Errorf("without a profile: %v, want %v", got, want)
	}
	var added []string
	for _, name := range with.ServiceNames() {
		if !slices.Contains(without.ServiceNames(), name) {
			added = append(added, name)
		}
	}
	if want := []string{"grafana", "monitor-role", "prometheus"}; !slices.Equal(added, want) {
		t.Errorf("the profile adds %v, want %v", added, want)
	}
}

// oneShot are services that others wait for until they have ended.
func oneShot(p *types.Project) map[string]bool {
	names := make(map[string]bool)
	for _, s := range p.Services {
		for name, dependency := range s.DependsOn {
			if dependency.Condition == types.ServiceConditionCompletedSuccessfully {
				names[name] = true
			}
		}
	}
	return names
}

func TestServices(t *testing.T) {
	t.Parallel()
	p := load(t, "monitoring")
	ends := oneShot(p)
	for _, s := range p.Services {
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s: port %s is open to other machines", s.Name, port.Published)
			}
		}
		if !ends[s.Name] && s.HealthCheck == nil {
			t.Errorf("%s has no health check", s.Name)
		}
		for name, dependency := range s.DependsOn {
			if dependency.Condition == types.ServiceConditionHealthy && p.Services[name].HealthCheck == nil {
				t.Errorf("%s waits until %s is healthy, which has no health check", s.Name, name)
			}
		}
		for _, v := range s.Volumes {
			if v.Type != types.VolumeTypeBind {
				continue
			}
			if !v.ReadOnly {
				t.Errorf("%s can change %s", s.Name, v.Source)
			}
			if _, err := os.Stat(v.Source); err != nil {
				t.Errorf("%s mounts what is not there: %v", s.Name, err)
			}
		}
		for _, program := range s.Entrypoint {
			if _, err := os.Stat(root + "/cmd/" + program); strings.HasPrefix(s.Image, "fusillade:") && err != nil {
				t.Errorf("%s: the image has no %s", s.Name, program)
			}
		}
	}
}

// inside is the file or directory of this checkout that a service finds at a path.
func inside(t *testing.T, s types.ServiceConfig, path string) string {
	t.Helper()
	for _, v := range s.Volumes {
		if rest, ok := strings.CutPrefix(path, v.Target); ok && v.Type == types.VolumeTypeBind && (rest == "" || rest[0] == '/') {
			return v.Source + rest
		}
	}
	t.Fatalf("%s: nothing is mounted at %s", s.Name, path)
	return ""
}

// isFile fails the test unless both are one file or directory.
func isFile(t *testing.T, got, want string) {
	t.Helper()
	a, err := os.Stat(got)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.Stat(want)
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(a, b) {
		t.Errorf("%s is mounted, want %s", got, want)
	}
}

// flag is the value of a flag of a service's command.
func flag(t *testing.T, s types.ServiceConfig, name string) string {
	t.Helper()
	for _, arg := range s.Command {
		if value, ok := strings.CutPrefix(arg, name+"="); ok {
			return value
		}
	}
	t.Fatalf("%s has no flag %s: %v", s.Name, name, s.Command)
	return ""
}

// Prometheus scrapes each process that serves metrics, at the port where it does,
// and has the alert rules.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	p := load(t, "monitoring")
	prometheus := p.Services["prometheus"]
	path := flag(t, prometheus, "--config.file")
	var cfg struct {
		RuleFiles []string `json:"rule_files"`
		Scrapes   []struct {
			Job string `json:"job_name"`
			DNS []struct {
				Names []string `json:"names"`
				Port  int      `json:"port"`
				Type  string   `json:"type"`
			} `json:"dns_sd_configs"`
		} `json:"scrape_configs"`
	}
	decode(t, inside(t, prometheus, path), &cfg)
	if len(cfg.RuleFiles) != 1 {
		t.Fatalf("rules are %v", cfg.RuleFiles)
	}
	isFile(t, inside(t, prometheus, filepath.Join(filepath.Dir(path), cfg.RuleFiles[0])), root+"/deploy/alerts.yaml")

	want := make(map[string]string)
	ends := oneShot(p)
	for _, s := range p.Services {
		if addr := s.Environment["FUSILLADE_ADMIN_ADDR"]; addr != nil && !ends[s.Name] {
			want[s.Name] = portOf(*addr)
		}
	}
	got := make(map[string]string)
	for _, scrape := range cfg.Scrapes {
		for _, d := range scrape.DNS {
			for _, name := range d.Names {
				got[name] = strconv.Itoa(d.Port)
			}
		}
	}
	if len(want) == 0 || !maps.Equal(got, want) {
		t.Errorf("it scrapes %v, want %v", got, want)
	}
}

// portOf is the port of an address such as :9090 or postgres:5432.
func portOf(address string) string { return address[strings.LastIndex(address, ":")+1:] }
