package monitoring

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/heatmap"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

const dashboards = "../../deploy/grafana"

// dashboardFile is a dashboard with its panels, rows among them, in order.
type dashboardFile struct {
	name   string
	board  dashboard.Dashboard
	panels []dashboard.Panel
}

// register makes the kinds of panels and queries known that the dashboards have.
var register = sync.OnceFunc(func() {
	kinds := cog.NewRuntime()
	for _, kind := range []variants.PanelcfgConfig{timeseries.VariantConfig(), stat.VariantConfig(), table.VariantConfig(), heatmap.VariantConfig()} {
		kinds.RegisterPanelcfgVariant(kind)
	}
	kinds.RegisterDataqueryVariant(prometheus.VariantConfig())
})

// load reads the dashboards as Grafana does. A field that its types do not have
// fails the test.
func load(t *testing.T) (all []dashboardFile) {
	t.Helper()
	register()
	paths, err := filepath.Glob(dashboards + "/*.json")
	if err != nil || len(paths) != 3 {
		t.Fatalf("%v: %v", paths, err)
	}
	for _, path := range paths {
		f := dashboardFile{name: filepath.Base(path)}
		raw := []byte(read(t, path))
		// It returns an empty list of errors where there is none, and no panels.
		if err := new(dashboard.Dashboard).UnmarshalJSONStrict(raw); err != nil && err.Error() != "" {
			t.Fatalf("%s: %v", path, err)
		}
		if err := json.Unmarshal(raw, &f.board); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if err := f.board.Validate(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		for _, p := range f.board.Panels {
			if p.Panel != nil {
				f.panels = append(f.panels, *p.Panel)
			}
		}
		all = append(all, f)
	}
	return all
}

// target is a query of a panel, whichever data source it is for.
type target struct {
	RefID      string `json:"refId"`
	Datasource struct{ Type, UID string }
	Expr       string
	Legend     string `json:"legendFormat"`
	Format     string
	Instant    bool
	SQL        string `json:"rawSql"`
}

func targets(t *testing.T, p dashboard.Panel) (all []target) {
	t.Helper()
	for _, query := range p.Targets {
		raw, err := json.Marshal(query)
		if err != nil {
			t.Fatal(err)
		}
		var one target
		if err := json.Unmarshal(raw, &one); err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
	return all
}

// expand puts in what Grafana puts in for its variables.
func expand(query string) string {
	return strings.NewReplacer("$__rate_interval", "1m", "$__range", "1h", "$job", ".*", "$model", ".*").Replace(query)
}

var (
	legendLabel = regexp.MustCompile(`\{\{([^}]*)\}\}`)
	variable    = regexp.MustCompile(`\$\{?([a-z]\w*)\}?`)
)

// Each query is of metrics that there are, with labels that they have, and each
// legend names labels of the result.
func TestDashboardQueries(t *testing.T) {
	t.Parallel()
	known := documented(t)
	used := make(map[string]bool)
	for _, f := range load(t) {
		variables := make(map[string]bool)
		for _, v := range f.board.Templating.List {
			variables[v.Name] = true
			if v.Type == "query" {
				checkVariable(t, f, v, known)
			}
		}
		for _, p := range f.panels {
			for _, q := range targets(t, p) {
				for _, name := range variable.FindAllStringSubmatch(q.Expr+q.Datasource.UID, -1) {
					if !variables[name[1]] {
						t.Errorf("%s, %s: there is no variable %s", f.name, *p.Title, name[1])
					}
				}
				if q.SQL != "" {
					continue
				}
				if !strings.Contains(q.Expr, `job=~"$job"`) || f.name == "model.json" && !strings.Contains(q.Expr, `model=~"$model"`) {
					t.Errorf("%s, %s: %s is of every job or model", f.name, *p.Title, q.Expr)
				}
				has, err := known.check(expand(q.Expr))
				if err != nil {
					t.Errorf("%s, %s: %v", f.name, *p.Title, err)
				}
				for _, label := range legendLabel.FindAllStringSubmatch(q.Legend, -1) {
					if !slices.Contains(has, label[1]) {
						t.Errorf("%s, %s: the legend %q, of a result with %v", f.name, *p.Title, q.Legend, has)
					}
				}
				for name := range known {
					if regexp.MustCompile(`\b` + name + `(_bucket|_sum|_count)?\b`).MatchString(q.Expr) {
						used[name] = true
					}
				}
			}
		}
	}
	for name := range known {
		if !used[name] {
			t.Errorf("no dashboard shows %s", name)
		}
	}
}

var labelValues = regexp.MustCompile(`^label_values\((.+), (\w+)\)$`)

func checkVariable(t *testing.T, f dashboardFile, v dashboard.VariableModel, known metrics) {
	t.Helper()
	parts := labelValues.FindStringSubmatch(*v.Definition)
	if parts == nil {
		t.Errorf("%s: variable %s is %s", f.name, v.Name, *v.Definition)
		return
	}
	if has, err := known.check(expand(parts[1])); err != nil || !slices.Contains(has, parts[2]) {
		t.Errorf("%s: variable %s: %v, label %s of %v", f.name, v.Name, err, parts[2], has)
	}
}

// What people see: each panel has a title and says what it shows, none lies on
// another, and none has an id twice.
func TestDashboardLayout(t *testing.T) {
	t.Parallel()
	uids := make(map[string]bool)
	for _, f := range load(t) {
		b := f.board
		if b.Uid == nil || uids[*b.Uid] || b.Title == nil || b.Description == nil || *b.Description == "" {
			t.Errorf("%s has no uid of its own, no title or no description", f.name)
		} else {
			uids[*b.Uid] = true
		}
		taken := make(map[[2]uint32]string)
		ids := make(map[uint32]bool)
		for _, p := range f.panels {
			if p.Title == nil || *p.Title == "" || p.Description == nil || !strings.HasSuffix(*p.Description, ".") {
				t.Errorf("%s: a panel has no title or description: %v", f.name, p.Title)
				continue
			}
			if p.Id == nil || ids[*p.Id] {
				t.Errorf("%s, %s: has no id of its own", f.name, *p.Title)
			} else {
				ids[*p.Id] = true
			}
			refs := make(map[string]bool)
			for _, q := range targets(t, p) {
				if refs[q.RefID] {
					t.Errorf("%s, %s: two queries %s", f.name, *p.Title, q.RefID)
				}
				refs[q.RefID] = true
			}
			if len(refs) == 0 || p.GridPos == nil || p.GridPos.X+p.GridPos.W > 24 {
				t.Errorf("%s, %s: asks nothing, or is not on the grid of 24 columns", f.name, *p.Title)
				continue
			}
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if other := taken[[2]uint32{x, y}]; other != "" && other != *p.Title {
						t.Errorf("%s: %s lies on %s", f.name, *p.Title, other)
					}
					taken[[2]uint32{x, y}] = *p.Title
				}
			}
		}
	}
}
