package control_test

import (
	"fmt"
	"sync"
	"testing"

	"fusillade/internal/batch"
	"fusillade/internal/control"
	"fusillade/internal/endpoint"
)

// Of changes to an endpoint that are made at once none undoes another.
func TestEndpointIsChangedByManyAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	auth, path, name := endpoint.XAPIKey, endpoint.Path("/api/{operation}"), "large-2"
	stream, priority := endpoint.On, endpoint.Off
	for i := range 5 {
		m := batch.Model(fmt.Sprint("m", i))
		if err := w.controller.SetModelEndpoint(t.Context(), m, control.ModelEndpoint{URLs: []string{"http://a"}}); err != nil {
			t.Fatal(err)
		}
		var changing sync.WaitGroup
		for _, e := range []control.ModelEndpoint{
			{Auth: &auth}, {Path: &path}, {Model: &name}, {Stream: &stream}, {SendPriority: &priority}, {URLs: []string{"http://a", "http://b"}},
		} {
			changing.Go(func() {
				if err := w.controller.SetModelEndpoint(t.Context(), m, e); err != nil {
					t.Error(err)
				}
			})
		}
		changing.Wait()
		all, err := w.Store.ModelUpstreams(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, err := endpoint.Decode(all[m].Options)
		if err != nil {
			t.Fatal(err)
		}
		if got == nil || got.Auth != auth || got.Path != path || got.Model != name || got.Stream != stream || got.SendPriority != priority || len(got.More) != 1 {
			t.Errorf("of six changes %+v is left", got)
		}
	}
}
