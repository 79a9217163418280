package compose

import (
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
	"sigs.k8s.io/yaml"
)

func decode(t *testing.T, path string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(read(t, path)), into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// provisioned is the one file of a kind that Grafana is given.
func provisioned(t *testing.T, grafana types.ServiceConfig, kind string) string {
	t.Helper()
	dir := "/etc/grafana/provisioning/" + kind + "/"
	var found []string
	for _, v := range grafana.Volumes {
		if strings.HasPrefix(v.Target, dir) {
			found = append(found, v.Source)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s: %v are given", kind, found)
	}
	return found[0]
}

// Each data source is a service at its port, and is of a kind that the dashboards
// ask for; they ask for no other.
func TestDataSources(t *testing.T) {
	t.Parallel()
	p := load(t, "monitoring")
	var file struct {
		Sources []struct {
			Type string         `json:"type"`
			URL  string         `json:"url"`
			User string         `json:"user"`
			JSON map[string]any `json:"jsonData"`
		} `json:"datasources"`
	}
	decode(t, provisioned(t, p.Services["grafana"], "datasources"), &file)
	var kinds []string
	for _, s := range file.Sources {
		kinds = append(kinds, s.Type)
		address := s.URL
		if u, err := url.Parse(s.URL); err == nil && u.Host != "" {
			address = u.Host
		}
		name, port, _ := strings.Cut(address, ":")
		if !slices.ContainsFunc(p.Services[name].Ports, func(at types.ServicePortConfig) bool { return strconv.Itoa(int(at.Target)) == port }) {
			t.Errorf("%s: no service %s has the port %s", s.Type, name, port)
		}
		if s.Type != "prometheus" && s.User != "fusillade_monitor" {
			t.Errorf("%s: viewers query as %q, which may read more than the role for it", s.Type, s.User)
		}
	}
	var wanted []string
	for _, path := range dashboards(t) {
		var board struct {
			Templating struct {
				List []struct {
					Type  string          `json:"type"`
					Query json.RawMessage `json:"query"`
				} `json:"list"`
			} `json:"templating"`
		}
		decode(t, path, &board)
		for _, v := range board.Templating.List {
			var kind string
			if v.Type == "datasource" && json.Unmarshal(v.Query, &kind) == nil {
				wanted = append(wanted, kind)
			}
		}
	}
	slices.Sort(kinds)
	slices.Sort(wanted)
	if wanted = slices.Compact(wanted); !slices.Equal(kinds, wanted) {
		t.Errorf("there are data sources %v, and dashboards ask for %v", kinds, wanted)
	}
}

func dashboards(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(root + "/deploy/grafana/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("dashboards: %v, %v", paths, err)
	}
	return paths
}

func TestDashboards(t *testing.T) {
	t.Parallel()
	grafana := load(t, "monitoring").Services["grafana"]
	var file struct {
		Providers []struct {
			Type    string `json:"type"`
			Options struct {
				Path string `json:"path"`
			} `json:"options"`
		} `json:"providers"`
	}
	decode(t, provisioned(t, grafana, "dashboards"), &file)
	if len(file.Providers) != 1 || file.Providers[0].Type != "file" {
		t.Fatalf("dashboards come from %+v", file.Providers)
	}
	isFile(t, inside(t, grafana, file.Providers[0].Options.Path), root+"/deploy/grafana")
	if home := grafana.Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]; home == nil {
		t.Error("there is no home dashboard")
	} else if _, err := os.Stat(inside(t, grafana, *home)); err != nil {
		t.Error(err)
	}
}

// The role that Grafana queries as is made by the files in deploy/postgres.
func TestMonitorRole(t *testing.T) {
	t.Parallel()
	role := load(t, "monitoring").Services["monitor-role"]
	for i, name := range []string{"roles.sql", "grants.sql"} {
		_, path, _ := strings.Cut(role.Command[i], "=")
		isFile(t, inside(t, role, path), root+"/deploy/postgres/"+name)
	}
	if found := regexp.MustCompile(`ALTER ROLE (\w+)`).FindStringSubmatch(role.Command[2]); found == nil || !strings.Contains(read(t, root+"/deploy/postgres/grants.sql"), found[1]) {
		t.Errorf("%s is of no role in grants.sql", role.Command[2])
	}
}
