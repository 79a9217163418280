package mock

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// BenchmarkServer counts whole calls over the loopback, the client's half
// included.
func BenchmarkServer(b *testing.B) {
	for _, bench := range []struct {
		name string
		cfg  Config
	}{
		{"plain", Config{DropCustomIDs: true}},
		{"custom ids, errors and ceiling", Config{Settings: Settings{Errors: "429=0.05,500=0.05", Ceilings: "*=1000"}}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			f := newFixture(b, bench.cfg)
			transport := &http.Transport{MaxIdleConnsPerHost: 100, DisableCompression: true}
			b.Cleanup(transport.CloseIdleConnections)
			body := []byte(`{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("word ", 50) + `"}]}`)
			b.ReportAllocs()
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					request, err := http.NewRequestWithContext(b.Context(), "POST", f.url+"/v1/chat/completions", bytes.NewReader(body))
					if err != nil {
						b.Error(err)
						return
					}
					request.Header["X-Fusillade-Custom-Id"] = []string{"request-1"}
					response, err := transport.RoundTrip(request)
					if err != nil {
						b.Error(err)
						return
					}
					_, _ = io.Copy(io.Discard, response.Body)
					_ = response.Body.Close()
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
		})
	}
}

// BenchmarkHandler counts the handler alone.
func BenchmarkHandler(b *testing.B) {
	server, err := New(Config{})
	if err != nil {
		b.Fatal(err)
	}
	body := []byte(`{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("word ", 50) + `"}]}`)
	request, err := http.NewRequestWithContext(b.Context(), "POST", "/v1/chat/completions", http.NoBody)
	if err != nil {
		b.Fatal(err)
	}
	request.Header.Set("X-Fusillade-Custom-Id", "request-1")
	w := discard{}
	b.ReportAllocs()
	for b.Loop() {
		request.Body = io.NopCloser(bytes.NewReader(body))
		server.ServeHTTP(w, request)
	}
}

type discard http.Header

func (d discard) Header() http.Header         { return http.Header(d) }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}
