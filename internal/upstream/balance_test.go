package upstream

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/endpoint"
	"fusillade/internal/testenv"
)

// replicas are servers of which one endpoint has the URLs.
type replicas struct {
	t       *testing.T
	client  *Client
	urls    []string
	servers []*httptest.Server
	answers []atomic.Pointer[http.HandlerFunc]
	calls   []atomic.Int64
	clock   atomic.Int64 // nanoseconds that have passed
}

func newReplicas(t *testing.T, n int) *replicas {
	t.Helper()
	r := &replicas{t: t, client: newClient(t, Config{}), answers: make([]atomic.Pointer[http.HandlerFunc], n), calls: make([]atomic.Int64, n)}
	began := time.Now()
	r.client.balancer.now = func() time.Time { return began.Add(time.Duration(r.clock.Load())) }
	for i := range n {
		r.answer(i, answering(http.StatusOK, answerOf))
		r.servers = append(r.servers, httptest.NewServer(r.handler(i)))
		r.urls = append(r.urls, r.servers[i].URL)
		t.Cleanup(func() { r.servers[i].Close() })
	}
	return r
}

func (r *replicas) handler(i int) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		r.calls[i].Add(1)
		(*r.answers[i].Load())(w, req)
	}
}

func answering(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func (r *replicas) answer(i int, how http.HandlerFunc) { r.answers[i].Store(&how) }

func (r *replicas) passes(d time.Duration) { r.clock.Add(int64(d)) }

// request is the line'th of the model, to all replicas.
func (r *replicas) request(model string, line int) Request {
	request := chatRequest(r.urls[0])
	request.ID.Line, request.Model, request.Options = int32(line), model, &endpoint.Options{More: r.urls[1:]}
	return request
}

// call makes n calls one after another, each of a request of its own, and
// returns how many came to each replica.
func (r *replicas) call(n int) (counts []int) {
	r.t.Helper()
	counts = make([]int, len(r.urls))
	for i := range counts {
		counts[i] = -int(r.calls[i].Load())
	}
	for line := range n {
		r.client.Do(r.t.Context(), r.request("m", 1000+line))
	}
	for i := range counts {
		counts[i] += int(r.calls[i].Load())
	}
	return counts
}

func (r *replicas) want(what string, got []int, want ...int) {
	r.t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		r.t.Errorf("%s: the replicas got %v calls, want %v", what, got, want)
	}
}

// Each call goes to the replica with the fewest in flight.
func TestLeastInFlight(t *testing.T) {
	t.Parallel()
	r := newReplicas(t, 3)
	release := make(chan struct{})
	for i := range r.urls {
		r.answer(i, func(w http.ResponseWriter, req *http.Request) {
			<-release
			answering(http.StatusOK, answerOf)(w, req)
		})
	}
	var calls sync.WaitGroup
	for line := range 12 {
		calls.Go(func() { r.client.Do(t.Context(), r.request("m", line)) })
	}
	awaitCalls(t, func() bool { return r.calls[0].Load()+r.calls[1].Load()+r.calls[2].Load() == 12 })
	for i := range r.urls {
		if n := r.calls[i].Load(); n != 4 {
			t.Errorf("replica %d got %d calls, want 4", i, n)
		}
	}
	for _, replica := range r.client.Replicas() {
		if replica.InFlight != 4 || replica.Ejected {
			t.Errorf("%+v", replica)
		}
	}
	close(release)
	calls.Wait()
	for _, replica := range r.client.Replicas() {
		if replica.InFlight != 0 {
			t.Errorf("%+v", replica)
		}
	}
}

// A replica that fails some times in a row is called no more, until one call
// finds it well.
func TestEjection(t *testing.T) {
	t.Parallel()
	broken := func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_ = conn.Close()
		}
	}
	for name, how := range map[string]http.HandlerFunc{
		"server error":    answering(http.StatusInternalServerError, "{}"),
		"bad gateway":     answering(http.StatusBadGateway, "<html>"),
		"closes":          broken,
		"wrong key there": answering(http.StatusUnauthorized, `{"error":{"message":"no"}}`),
		"no such model":   answering(http.StatusNotFound, `{"error":{"message":"no"}}`),
		"a page":          answering(http.StatusOK, "<html>"),
		"elsewhere":       answering(http.StatusFound, "", "Location", "http://login.invalid"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReplicas(t, 2)
			r.answer(1, how)
			r.want("it fails", r.call(20), 17, 3)
			r.want("it is ejected", r.call(5), 5, 0)
			if got := r.client.Replicas(); !ejectedOnly(got, hostOf(r.urls[1])) {
				t.Errorf("%+v", got)
			}
			r.passes(2 * minEjection)
			r.want("it is probed", r.call(5), 4, 1)
			r.passes(minEjection) // of twice that
			r.want("its probe failed", r.call(5), 5, 0)
			r.answer(1, answering(http.StatusOK, answerOf))
			r.passes(2 * minEjection)
			r.want("it is probed again", r.call(1), 0, 1)
			r.want("it is back", r.call(10), 5, 5)
		})
	}
}

func ejectedOnly(all []Replica, host string) bool {
	for _, r := range all {
		if r.Ejected != (r.Host == host) || r.Ejected && r.Ejections != 1 {
			return false
		}
	}
	return len(all) == 2
}

// A server that is gone, and one that comes up at its address.
func TestReplicaRestarts(t *testing.T) {
	t.Parallel()
	r := newReplicas(t, 2)
	address := r.servers[1].Listener.Addr().String()
	r.servers[1].Close()
	r.want("it is gone", r.call(10), 7, 0)
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Skipf("its port was taken meanwhile: %v", err)
	}
	r.servers[1] = &httptest.Server{Listener: listener, Config: &http.Server{Handler: r.handler(1), ReadHeaderTimeout: ample}}
	r.servers[1].Start()
	r.want("it is back, but ejected", r.call(4), 4, 0)
	r.passes(2 * minEjection)
	r.want("it was probed", r.call(4), 2, 2)
}

// One call probes a replica while all others go elsewhere; after a while
// somebody is there, though no answer is.
func TestOneProbe(t *testing.T) {
	t.Parallel()
	r := newReplicas(t, 2)
	r.answer(1, answering(http.StatusInternalServerError, "{}"))
	r.call(10)
	release := make(chan struct{})
	r.answer(1, func(w http.ResponseWriter, req *http.Request) {
		<-release
		answering(http.StatusInternalServerError, "{}")(w, req)
	})
	r.passes(2 * minEjection)
	before := r.calls[1].Load()
	probed := make(chan struct{})
	go func() {
		defer close(probed)
		r.client.Do(t.Context(), r.request("m", 1))
	}()
	awaitCalls(t, func() bool { return r.calls[1].Load() == before+1 })
	r.want("it is probed", r.call(5), 5, 0)
	close(release)
	<-probed
	r.want("the probe failed", r.call(5), 5, 0)

	release = make(chan struct{})
	r.answer(1, func(w http.ResponseWriter, req *http.Request) {
		<-release
		answering(http.StatusOK, answerOf)(w, req)
	})
	r.passes(maxEjection * 2)
	probed = make(chan struct{})
	before = r.calls[1].Load()
	go func() {
		defer close(probed)
		r.client.Do(t.Context(), r.request("m", 2))
	}()
	awaitCalls(t, func() bool { return r.calls[1].Load() == before+1 })
	r.answer(1, answering(http.StatusOK, answerOf))
	r.passes(time.Minute)
	r.call(1)
	for _, replica := range r.client.Replicas() {
		if replica.Ejected {
			t.Errorf("the probe goes on for a minute, and %+v", replica)
		}
	}
	close(release)
	<-probed
}

// A retry goes to another replica than the attempt before, if there is one.
func TestRetriesGoElsewhere(t *testing.T) {
	t.Parallel()
	r := newReplicas(t, 3)
	for i := range r.urls {
		r.answer(i, answering(http.StatusInternalServerError, "{}"))
	}
	last := -1
	for attempt := range 6 {
		before := [3]int64{r.calls[0].Load(), r.calls[1].Load(), r.calls[2].Load()}
		r.client.Do(t.Context(), r.request("m", 7))
		for i := range before {
			if r.calls[i].Load() == before[i] {
				continue
			}
			if i == last {
				t.Errorf("attempt %d goes to replica %d again", attempt, i)
			}
			last = i
		}
	}
	r.client.balancer.mu.Lock()
	defer r.client.balancer.mu.Unlock()
	if n := len(r.client.balancer.failed); n != 1 {
		t.Errorf("%d failed requests are remembered, want 1", n)
	}
}

// Retry-After is the replica's own: nothing waits while another one has room.
func TestReplicaAsksForAPause(t *testing.T) {
	t.Parallel()
	r := newReplicas(t, 2)
	full := answering(http.StatusTooManyRequests, "{}", "Retry-After", "20")
	r.answer(0, full)
	var refused Outcome
	for line := range 2 {
		if o := r.client.Do(t.Context(), r.request("m", line)); o.Reason != "" {
			refused = o
		}
	}
	if refused.Reason != batch.RetriableHTTPStatus || refused.RetryAfter != 0 {
		t.Errorf("one is full: %s, retry after %v", refused.Reason, refused.RetryAfter)
	}
	r.want("one is full", r.call(5), 0, 5)
	r.answer(1, full)
	if o := r.client.Do(t.Context(), r.request("m", 9)); o.RetryAfter <= 0 || o.RetryAfter > 20*time.Second {
		t.Errorf("both are full: %s, retry after %v", o.Reason, o.RetryAfter)
	}
	r.answer(0, answering(http.StatusOK, answerOf))
	r.answer(1, answering(http.StatusOK, answerOf))
	r.passes(21 * time.Second)
	r.want("both have room", r.call(10), 5, 5)
}

// Where every replica fails there is no other choice.
func TestAllEjected(t *testing.T) {
	t.Parallel()
	r := newReplicas(t, 2)
	for i := range r.urls {
		r.answer(i, answering(http.StatusInternalServerError, "{}"))
	}
	r.call(10)
	if got := r.call(10); got[0]+got[1] != 10 {
		t.Errorf("of 10 calls the replicas got %v", got)
	}
	r.answer(0, answering(http.StatusOK, answerOf))
	r.call(4)
	r.want("one answers", r.call(5), 5, 0)
}

// A model that no replica knows, and a batch's own key that all of them refuse,
// eject nothing that others call.
func TestReplicasOfOthers(t *testing.T) {
	t.Parallel()
	r := newReplicas(t, 2)
	for i := range r.urls {
		r.answer(i, func(w http.ResponseWriter, req *http.Request) {
			switch {
			case req.Header.Get("Authorization") == "Bearer own":
				answering(http.StatusUnauthorized, "{}")(w, req)
			case req.Header.Get(HeaderCustomID) == "unknown":
				answering(http.StatusNotFound, "{}")(w, req)
			default:
				answering(http.StatusOK, answerOf)(w, req)
			}
		})
	}
	for line := range 8 {
		own := r.request("m", line)
		own.APIKey, own.OwnKey = "own", true
		r.client.Do(t.Context(), own)
		strange := r.request("unknown", line)
		strange.CustomID = "unknown"
		r.client.Do(t.Context(), strange)
	}
	r.want("after others' failures", r.call(8), 4, 4)
}

// Bounds hold, and nothing of it races.
func TestManyReplicas(t *testing.T) {
	t.Parallel()
	b := newBalancer(nil, time.Second)
	var calls sync.WaitGroup
	for g := range 4 {
		calls.Go(func() {
			for i := range 3000 {
				request := Request{ID: batch.RequestID{Line: int32(g*3000 + i)}, Model: fmt.Sprint(g, i), BaseURL: "http://a", Options: &endpoint.Options{More: []string{"http://b"}}}
				outcome := Outcome{Reason: batch.NetworkError}
				b.done(b.pick(&request), &request, &outcome)
			}
		})
	}
	calls.Wait()
	if len(b.replicas) > maxReplicas+2 || len(b.failed) > maxFailed || len(b.inFlight) != 0 {
		t.Errorf("%d replicas, %d failed, %d with calls", len(b.replicas), len(b.failed), len(b.inFlight))
	}
}

func awaitCalls(t *testing.T, done func() bool) {
	t.Helper()
	testenv.Until(t, ample, "the calls are there", done)
}
