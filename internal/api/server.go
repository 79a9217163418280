package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"fusillade/internal/tally"
)

const (
	readHeaderTimeout = 10 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 32 << 10
	// maxDownloads bounds what pages of lines take in memory.
	maxDownloads = 16
)

// Server serves the API. It is safe for concurrent use.
type Server struct {
	cfg       Config
	mux       *http.ServeMux
	uploads   *gate
	downloads *gate
	watchers  *gate
	// streams ends when responses that go on for long are to end.
	streams    context.Context
	endStreams context.CancelFunc
	// background runs beside the server.
	background []func(context.Context)
	often      *tally.Log // of failures that many requests share
	readiness  readiness
	// working is held for reading by every handler at work, also by those whose
	// connections are closed.
	working sync.RWMutex
}

// New returns a Server, or an error that names every bad field of cfg.
func New(cfg Config) (*Server, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("configuring the API: %w", err)
	}
	newGate := func(n, perOwner int) *gate { return newGate(n, perOwner, cfg.Owner != "", cfg.RetryAfter) }
	s := &Server{
		cfg: cfg, mux: http.NewServeMux(), uploads: newGate(cfg.MaxUploads, cfg.MaxUploadsPerOwner),
		downloads: newGate(maxDownloads, cfg.MaxDownloadsPerOwner), watchers: newGate(maxWatchers, cfg.MaxWatchersPerOwner),
		often: tally.New(cfg.Log, 0), readiness: newReadiness(cfg.Ready),
	}
	s.streams, s.endStreams = context.WithCancel(context.Background())
	for _, route := range s.routes() {
		s.mux.Handle(route.pattern, route.handler)
	}
	return s, nil
}

// route is a pattern of http.ServeMux and what serves it.
type route struct {
	pattern string
	handler http.Handler
}

func (s *Server) routes() []route {
	routes := []route{
		{"GET /openapi.json", http.HandlerFunc(s.document)},
		{"GET /livez", http.HandlerFunc(s.alive)}, {"GET /healthz", http.HandlerFunc(s.alive)}, {"GET /readyz", http.HandlerFunc(s.ready)},
	}
	for _, e := range s.endpoints() {
		routes = append(routes, route{e.pattern, s.traced(e.pattern, s.authenticated(e.serve))})
	}
	return routes
}

type endpointRoute struct {
	pattern string
	serve   endpoint
}

// endpoints are all routes but those that serve everybody.
func (s *Server) endpoints() []endpointRoute {
	return []endpointRoute{
		{"POST /v1/files", stream(s.uploadFile)},
		{"GET /v1/files", handle(s, s.listFiles)},
		{"GET /v1/files/{id}", handle(s, s.getFile)},
		{"DELETE /v1/files/{id}", handle(s, s.deleteFile)},
		{"GET /v1/files/{id}/content", stream(s.fileContent)},
		{"POST /v1/uploads", handle(s, s.createUpload)},
		{"POST /v1/uploads/{id}/parts", stream(s.addPart)},
		{"POST /v1/uploads/{id}/complete", handle(s, s.completeUpload)},
		{"POST /v1/uploads/{id}/cancel", handle(s, s.cancelUpload)},
		{"POST /v1/batches", handle(s, s.createBatch)},
		{"GET /v1/batches", handle(s, s.listBatches)},
		{"GET /v1/batches/{id}", handle(s, s.getBatch)},
		{"PATCH /v1/batches/{id}", handle(s, s.changeBatch)},
		{"DELETE /v1/batches/{id}", handle(s, s.deleteBatch)},
		{"POST /v1/batches/{id}/cancel", handle(s, s.cancelBatch)},
		{"POST /v1/batches/{id}/rerun", handle(s, s.rerunBatch)},
		{"POST /v1/batches/{id}/retry", handle(s, s.rerunBatch)}, // the former name of rerun
		{"GET /v1/batches/{id}/results", stream(s.batchResults)},
		{"GET /v1/batches/{id}/errors", handle(s, s.batchErrors)},
		{"GET /v1/batches/{id}/events", stream(s.batchEvents)},
		{"GET /v1/models", handle(s, s.listModels)},
		{"GET /v1/models/{id...}", handle(s, s.getModel)},
		{"GET /admin/v1/models", operators(handle(s, s.listModelStatuses))},
		{"PATCH /admin/v1/models/{id...}", operators(handle(s, s.changeModel))},
		{"POST /admin/v1/batches/{id}/cancel", everybodys(handle(s, s.cancelBatch))},
		{"POST /admin/v1/batches/{id}/rerun", everybodys(handle(s, s.rerunBatch))},
		{"DELETE /admin/v1/batches/{id}", everybodys(handle(s, s.deleteBatch))},
		{"DELETE /admin/v1/holds", operators(handle(s, s.liftHolds))},
		{"GET /admin/v1/daemons", operators(handle(s, s.listDaemons))},
		{"GET /admin/v1/demand", operators(handle(s, s.listDemand))},
		{"GET /admin/v1/demand/{id...}", operators(handle(s, s.modelDemand))},
	}
}

// Run serves on a listener until ctx ends, then lets responses go on for
// DrainTimeout, and returns when all have ended.
func (s *Server) Run(ctx context.Context, listener net.Listener) error {
	requests, abort := context.WithCancel(context.WithoutCancel(ctx))
	defer abort()
	server := &http.Server{
		Handler:           s,
		BaseContext:       func(net.Listener) context.Context { return requests },
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
	}
	var beside sync.WaitGroup
	defer beside.Wait()
	besides, endBesides := context.WithCancel(requests)
	defer endBesides()
	beside.Go(func() { s.often.Run(besides) })
	for _, f := range s.background {
		beside.Go(func() { f(besides) })
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	var err error
	select {
	case err = <-served:
		err = fmt.Errorf("serving the API: %w", err)
	case <-ctx.Done():
	}
	s.endStreams()
	draining, cancel := context.WithTimeout(requests, s.cfg.DrainTimeout)
	defer cancel()
	stopErr := server.Shutdown(draining)
	if errors.Is(stopErr, context.DeadlineExceeded) {
		abort()
		stopErr = server.Close()
	}
	if err == nil {
		<-served //nolint:errcheck // it is http.ErrServerClosed
	}
	s.working.Lock()
	s.working.Unlock() //nolint:staticcheck // it waits
	return errors.Join(err, stopErr)
}
