package postgres

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
)

func ptr[T any](v T) *T { return &v }

// Each change touches what it names and nothing else.
func TestChangeModel(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	escalates := func(to batch.Model, before time.Duration) *batch.Escalation {
		return &batch.Escalation{Model: to, Threshold: before}
	}
	for _, step := range []struct {
		name   string
		model  batch.Model
		change ModelChange
		want   ModelSettings
	}{
		{"limit", testModel, ModelChange{Limit: ptr(batch.Limit(5))}, ModelSettings{Limit: 5}},
		{"pause", testModel, ModelChange{Paused: ptr(true)}, ModelSettings{Limit: 5, Paused: true}},
		{"escalation", testModel, ModelChange{EscalateTo: ptr(otherName)},
			ModelSettings{Limit: 5, Paused: true, Escalation: escalates(otherName, 900*time.Second)}},
		{"threshold", testModel, ModelChange{EscalateBefore: ptr(time.Minute)},
			ModelSettings{Limit: 5, Paused: true, Escalation: escalates(otherName, time.Minute)}},
		{"another model, same threshold", testModel, ModelChange{EscalateTo: ptr(batch.Model("third"))},
			ModelSettings{Limit: 5, Paused: true, Escalation: escalates("third", time.Minute)}},
		{"no limit", testModel, ModelChange{Limit: ptr(batch.Limit(0))}, ModelSettings{Paused: true, Escalation: escalates("third", time.Minute)}},
		{"none at all", testModel, ModelChange{EscalateTo: ptr(batch.Model(""))}, ModelSettings{Paused: true, Escalation: escalates("", 0)}},
		{"both", testModel, ModelChange{EscalateTo: ptr(otherName), EscalateBefore: ptr(time.Hour)},
			ModelSettings{Paused: true, Escalation: escalates(otherName, time.Hour)}},
		{"as the environment says", testModel, ModelChange{DefaultEscalation: true}, ModelSettings{Paused: true}},
		{"resume", testModel, ModelChange{Paused: ptr(false)}, ModelSettings{}},
		{"all of a new one", otherName, ModelChange{Limit: ptr(batch.Limit(1)), Paused: ptr(true), EscalateTo: ptr(testModel), EscalateBefore: ptr(time.Second)},
			ModelSettings{Limit: 1, Paused: true, Escalation: escalates(testModel, time.Second)}},
		{"an automatic limit", testModel, ModelChange{Limit: ptr(batch.AutoLimit(4, 200))}, ModelSettings{Limit: batch.AutoLimit(4, 200)}},
		{"pause, and keep it", testModel, ModelChange{Paused: ptr(true)}, ModelSettings{Limit: batch.AutoLimit(4, 200), Paused: true}},
		{"a number again", testModel, ModelChange{Limit: ptr(batch.Limit(9))}, ModelSettings{Limit: 9, Paused: true}},
		{"automatic again", testModel, ModelChange{Limit: ptr(batch.AutoLimit(1, 1))}, ModelSettings{Limit: batch.AutoLimit(1, 1), Paused: true}},
		{"as the environment says again", testModel, ModelChange{Limit: ptr(batch.Limit(0)), Paused: ptr(false)}, ModelSettings{}},
		{"none of a new one", "third", ModelChange{EscalateTo: ptr(batch.Model(""))}, ModelSettings{Escalation: escalates("", 0)}},
	} {
		if err := s.ChangeModel(t.Context(), step.model, step.change); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		got, err := s.ModelSettings(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, got[step.model]); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", step.name, diff)
		}
	}
}

func TestBadModelChanges(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	err := s.ChangeModel(t.Context(), "none yet", ModelChange{EscalateBefore: ptr(time.Minute)})
	wantErr(t, err, batch.ErrNoEscalation)
	for name, change := range map[string]ModelChange{
		"to itself":         {EscalateTo: ptr(testModel)},
		"negative limit":    {Limit: ptr(batch.Limit(-1))},
		"threshold of zero": {EscalateTo: ptr(otherName), EscalateBefore: ptr(time.Duration(0))},
	} {
		if err := s.ChangeModel(t.Context(), testModel, change); err == nil || Transient(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err := s.ModelSettings(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("settings %v, %v; want none", got, err)
	}
}

func TestUserWeights(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	for _, step := range []struct {
		name   string
		weight float64
		want   map[string]float64
	}{
		{"alice", 2.5, map[string]float64{"alice": 2.5}},
		{"bob", MaxWeight, map[string]float64{"alice": 2.5, "bob": MaxWeight}},
		{"alice", MinWeight, map[string]float64{"alice": MinWeight, "bob": MaxWeight}},
		{"bob", 0, map[string]float64{"alice": MinWeight}},
		{"nobody", 0, map[string]float64{"alice": MinWeight}},
	} {
		if err := s.SetOwnerWeight(t.Context(), step.name, step.weight); err != nil {
			t.Fatal(err)
		}
		got, err := s.OwnerWeights(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("after %s=%v (-want +got):\n%s", step.name, step.weight, diff)
		}
	}
	for _, weight := range []float64{-1, MinWeight / 2, 2 * MaxWeight} {
		if err := s.SetOwnerWeight(t.Context(), "alice", weight); err == nil || Transient(err) {
			t.Errorf("weight %v: %v", weight, err)
		}
	}
}

func TestPendingByModel(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	id := newBatch(t, s, 10, testModel, otherName)
	newBatch(t, s, 3)
	claimed(t, s, id, 2)
	got, err := s.PendingByModel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[batch.Model]int64{testModel: 6, otherName: 5}, got); diff != "" {
		t.Errorf("backlog (-want +got):\n%s", diff)
	}
}
