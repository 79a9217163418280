package telemetry_test

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"fusillade/internal/batch"
	"fusillade/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A daemon that begins again in its process goes on counting.
func TestRegisterAgain(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	for range 2 {
		telemetry.Counter(reg, "a_total", "A.").Inc()
		telemetry.Counters(reg, "b_total", "B.", "x").WithLabelValues("1").Inc()
		telemetry.Histogram(reg, "c", "C.", telemetry.Sizes).Observe(1)
		telemetry.Histograms(reg, "d", "D.", telemetry.Sizes, "x").WithLabelValues("1").Observe(1)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != 4 {
		t.Errorf("%d metrics, want 4", len(families))
	}
	for _, f := range families {
		m := f.GetMetric()[0]
		if n := m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount()); n != 2 {
			t.Errorf("%s counts %v, want 2", f.GetName(), n)
		}
	}
}

func TestRegisterWithoutRegisterer(t *testing.T) {
	t.Parallel()
	c := telemetry.Counter(nil, "a_total", "A.")
	c.Inc()
	if got := testutil.ToFloat64(c); got != 1 {
		t.Errorf("counts %v, want 1", got)
	}
	telemetry.Attach(nil, c)()
}

func TestRegisterAnotherMeaning(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	telemetry.Counter(reg, "a_total", "A.")
	defer func() {
		if recover() == nil {
			t.Error("a name with two meanings was registered")
		}
	}()
	telemetry.Counters(reg, "a_total", "A.", "model")
}

func TestAttach(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	for range 2 {
		detach := telemetry.Attach(reg, prometheus.NewGauge(prometheus.GaugeOpts{Name: "a"}))
		if n, err := testutil.GatherAndCount(reg); n != 1 || err != nil {
			t.Errorf("%d metrics while attached, %v", n, err)
		}
		detach()
		if n, err := testutil.GatherAndCount(reg); n != 0 || err != nil {
			t.Errorf("%d metrics when detached, %v", n, err)
		}
	}
}

func TestModelLabels(t *testing.T) {
	t.Parallel()
	var m telemetry.Models
	if got := m.Label("meta/Llama-3.1:8b"); got != "meta/Llama-3.1:8b" {
		t.Errorf("label %q", got)
	}
	if got := m.Label("a\xffb"); got != "a\uFFFDb" {
		t.Errorf("label %q of a name that is no UTF-8", got)
	}
	labels := make(map[string]bool)
	for i := range 5000 {
		labels[m.Label(batch.Model(fmt.Sprint("m", i)))] = true
	}
	if len(labels) != 1000-2+1 || !labels[telemetry.OtherModels] {
		t.Errorf("%d labels of 5000 models; other: %v", len(labels), labels[telemetry.OtherModels])
	}
	if got := m.Label("m0"); got != "m0" {
		t.Errorf("a model's label changed to %q", got)
	}
	if label, ok := m.Forget("never seen"); ok {
		t.Errorf("the label %q of a model that was never seen is forgotten", label)
	}
	if got := m.Label("late"); got != telemetry.OtherModels {
		t.Errorf("label %q of a model too many", got)
	}
	if label, ok := m.Forget("m0"); label != "m0" || !ok {
		t.Errorf("label %q is forgotten (%v), want m0", label, ok)
	}
	if got := m.Label("late"); got != "late" {
		t.Errorf("label %q of a model that came when there was place", got)
	}
	m.Forget("m1")
	if got := m.Label("a\xfeb"); got != "a\uFFFDb" { // the label of another model too
		t.Errorf("label %q of another name that is no UTF-8", got)
	}
	if label, ok := m.Forget("a\xffb"); ok {
		t.Errorf("the label %q is forgotten, which another model has", label)
	}
	if label, ok := m.Forget("a\xfeb"); label != "a\uFFFDb" || !ok {
		t.Errorf("label %q is forgotten (%v), which no other model has", label, ok)
	}
}
