package telemetry

import (
	"strings"
	"sync"

	"fusillade/internal/batch"
)

const (
	// maxModels is how many models have labels of their own. Users name models,
	// so nothing else keeps their number small.
	maxModels = 1000
	// OtherModels is the label of all models beyond.
	OtherModels = "_other"
)

// Models gives models their labels: the first thousand have one of their own, and
// others when those are forgotten. The zero value is ready to use.
type Models struct {
	mu     sync.Mutex
	labels map[batch.Model]string
}

// Label is the label of a model: its name as valid UTF-8, or OtherModels. Two
// models may have the same one.
func (m *Models) Label(model batch.Model) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	label, ok := m.labels[model]
	switch {
	case ok:
		return label
	case len(m.labels) >= maxModels:
		return OtherModels
	case m.labels == nil:
		m.labels = make(map[batch.Model]string)
	}
	label = strings.ToValidUTF8(string(model), "\uFFFD")
	m.labels[model] = label
	return label
}

// Forget ends a model's label, and returns it if there is one that no other model
// has: then nothing is to be reported under it any more.
func (m *Models) Forget(model batch.Model) (label string, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	label, ok = m.labels[model]
	delete(m.labels, model)
	for _, other := range m.labels {
		if other == label {
			return "", false
		}
	}
	return label, ok
}
