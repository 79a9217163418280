package postgres

import (
	"time"

	"fusillade/internal/batch"
)

// Route is how requests come to a model: those that name it, or those that
// name another one which escalates to it. It is open to requests whose batch
// has so much time left, by Postgres's clock. The zero value stands for the
// requests that name the model, however much time is left.
type Route struct {
	From    batch.Model   // as the file says; empty: the model itself
	AtLeast time.Duration // left before the batch expires; 0: no bound
	Below   time.Duration // 0: no bound
}

// routes are Routes as array parameters.
type routes struct {
	models         []string
	atLeast, below []int64 // microseconds
}

// newRoutes makes room for n.
func newRoutes(n int) *routes {
	return &routes{models: make([]string, 0, n), atLeast: make([]int64, 0, n), below: make([]int64, 0, n)}
}

// add adds a route to a model.
func (r *routes) add(to batch.Model, via Route) {
	from := via.From
	if from == "" {
		from = to
	}
	r.models = append(r.models, string(from))
	r.atLeast, r.below = append(r.atLeast, via.AtLeast.Microseconds()), append(r.below, via.Below.Microseconds())
}
