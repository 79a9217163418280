package upstream

import (
	"bufio"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const benchAnswer = `{"id":"chatcmpl-1","object":"chat.completion","created":1767225600,"model":"m","choices":[{"index":0,` +
	`"message":{"role":"assistant","content":"the quick brown fox jumps over a lazy watch","refusal":null},"finish_reason":"stop"}],` +
	`"usage":{"prompt_tokens":10,"completion_tokens":9,"total_tokens":19}}`

// newBenchServer answers every request alike and allocates next to nothing,
// so that what a benchmark counts is the client.
func newBenchServer(b *testing.B, requestBytes int) string {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(benchAnswer)) + "\r\n\r\n" + benchAnswer)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				reader := bufio.NewReaderSize(conn, 16<<10)
				for {
					for {
						line, err := reader.ReadSlice('\n')
						if err != nil {
							return
						}
						if len(line) == 2 {
							break
						}
					}
					if _, err := reader.Discard(requestBytes); err != nil {
						return
					}
					if _, err := conn.Write(answer); err != nil {
						return
					}
				}
			})
		}
	})
	b.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	return "http://" + listener.Addr().String()
}

func BenchmarkDo(b *testing.B) {
	request := chatRequest("")
	request.Body = []byte(`{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("word ", 200) + `"}]}`)
	request.BaseURL = newBenchServer(b, len(request.Body))
	client := newClient(b, Config{})
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if got := client.Do(b.Context(), request); got.Reason != "" {
				b.Errorf("%s: %s", got.Reason, got.Detail)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
}

func BenchmarkClassify(b *testing.B) {
	client := newClient(b, Config{})
	resp := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}}
	body := []byte(benchAnswer)
	request := chatRequest("http://127.0.0.1:8000")
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if got := client.classify(&request, resp, received{body: body}); got.Reason != "" {
			b.Fatal(got.Detail)
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	request := chatRequest("http://127.0.0.1:8000")
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := request.build(b.Context(), DefaultUserAgent); err != nil {
			b.Fatal(err)
		}
	}
}
