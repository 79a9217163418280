package upstream

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// A connection that the endpoint closes for being idle costs no attempt, however
// close to that moment the next call begins.
func TestIdleConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	const idle = 50 * time.Millisecond
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, okBody)
	}))
	server.Config.IdleTimeout = idle
	server.Start()
	t.Cleanup(server.Close)
	client := newClient(t, Config{})
	pause := time.NewTimer(0)
	defer pause.Stop()
	for i := range 40 {
		if got := client.Do(t.Context(), chatRequest(server.URL)); got.Reason != "" {
			t.Fatalf("call %d: %q (%s)", i, got.Reason, got.Detail)
		}
		pause.Reset(idle + time.Duration(i%20-10)*200*time.Microsecond)
		<-pause.C
	}
}
