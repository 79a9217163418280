package mock

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// unparsedModel counts the calls that name no model.
const unparsedModel = "(none)"

// Server is a model server. It is safe for concurrent use and starts no
// goroutine.
type Server struct {
	seed            uint64
	recordCustomIDs bool
	words           *words
	mux             *http.ServeMux
	models          *models
	customIDs       *customIDs
	settings        atomic.Pointer[settings]
	patching        sync.Mutex // held from reading the settings to replacing them
}

// New returns a server. The error names every field that is wrong.
func New(cfg Config) (*Server, error) {
	outputTokens, err := cfg.outputTokens()
	if err != nil {
		return nil, fmt.Errorf("configuring mock: %w", err)
	}
	s := &Server{
		seed:            cfg.Seed,
		recordCustomIDs: !cfg.DropCustomIDs,
		words:           newWords(outputTokens),
		models:          newModels(),
		customIDs:       newCustomIDs(),
	}
	if err := s.Configure(cfg.Settings); err != nil {
		return nil, fmt.Errorf("configuring mock: %w", err)
	}
	s.mux = s.routes()
	return s, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Settings returns the settings in force.
func (s *Server) Settings() Settings { return s.settings.Load().Settings }

// Configure replaces the settings. Calls that hang are answered at once; other
// calls in flight keep the latency they have. On error nothing changes.
func (s *Server) Configure(settings Settings) error {
	parsed, err := settings.parse()
	if err != nil {
		return err
	}
	if old := s.settings.Swap(parsed); old != nil {
		close(old.replaced)
	}
	for name, m := range *s.models.byName.Load() {
		m.engine.resize(parsed.knee.of(name))
	}
	return nil
}

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for path, e := range map[string]endpoint{
		"/v1/chat/completions":   chatCompletionsEndpoint,
		"/v1/images/generations": imagesEndpoint,
		"/v1/images/edits":       imagesEndpoint,
		"/v1/messages":           messagesEndpoint,
		"/v1/rerank":             rerankEndpoint,
		"/rerank":                rerankEndpoint,
		"/v2/rerank":             rerankEndpoint,
		"/v1/score":              scoreEndpoint,
		"/score":                 scoreEndpoint,
		"/classify":              classifyEndpoint,
		"/pooling":               poolingEndpoint,
		"/v1/completions":        completionsEndpoint,
		"/v1/responses":          responsesEndpoint,
		"/v1/embeddings":         embeddingsEndpoint,
		"/v1/moderations":        moderationsEndpoint,
	} {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) { s.serveCall(w, r, e) })
	}
	mux.HandleFunc("GET /v1/models", s.serveModels)
	mux.HandleFunc("GET /livez", serveHealth)
	mux.HandleFunc("GET /readyz", serveHealth)
	mux.HandleFunc("GET /stats", s.serveStats)
	mux.HandleFunc("POST /stats/reset", s.serveReset)
	mux.HandleFunc("GET /config", s.serveConfig)
	mux.HandleFunc("PATCH /config", s.serveConfigure)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, http.StatusNotFound, "no such endpoint: "+r.Method+" "+r.URL.Path)
	})
	return mux
}

// serveHealth answers `fusillade health`: what serves is alive and ready.
func serveHealth(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, "ok\n")
}

func (s *Server) serveCall(w http.ResponseWriter, r *http.Request, e endpoint) {
	inForce := s.settings.Load()
	c, err := s.readCall(w, r, e)
	if err != nil {
		m := s.models.get(unparsedModel)
		m.begin()
		if errors.Is(err, errClientGone) {
			m.depart()
			panic(http.ErrAbortHandler)
		}
		m.answer(http.StatusBadRequest)
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}

	m := s.models.get(c.Model)
	if inFlight, ceiling := m.begin(), inForce.ceilings.of(c.Model); inFlight > ceiling {
		m.violate()
		m.answer(http.StatusTooManyRequests)
		inForce.writeInjected(w, c, http.StatusTooManyRequests, "more than "+strconv.FormatInt(ceiling, 10)+" calls in flight")
		return
	}
	if !s.work(r, c, m) {
		m.depart()
		panic(http.ErrAbortHandler) // net/http's way to cut the connection
	}
	if status := inForce.errors.status(c.draw); status != http.StatusOK {
		m.answer(status)
		inForce.writeInjected(w, c, status, "injected error")
		return
	}
	body, answer, err := s.answer(c)
	if err != nil {
		m.answer(http.StatusBadRequest)
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	if b, found := inForce.behaviors.of(c); found && !r.URL.Query().Has(redirectedParameter) {
		if b.status == 0 {
			m.abort()
		} else {
			m.answer(b.status)
		}
		setRequestID(w, c)
		b.play(&turn{w: w, r: r, c: c, answer: body})
		return
	}
	setRequestID(w, c)
	if events := c.events(answer); events != nil {
		if !inForce.stream(w, r, c.draw, events, func() { m.answer(http.StatusOK) }) {
			m.depart()
			panic(http.ErrAbortHandler)
		}
		return
	}
	m.answer(http.StatusOK)
	writeBody(w, http.StatusOK, body)
}

// work holds the call while it waits for the engine and is worked on, and reports
// whether its client is still there.
func (s *Server) work(r *http.Request, c *call, m *model) bool {
	inForce := s.settings.Load()
	knee := inForce.knee.of(c.Model)
	if knee == math.MaxInt64 && !m.engine.used.Load() {
		return inForce.wait(r, c.draw)
	}
	if !m.engine.enter(r.Context(), knee) {
		return false
	}
	defer m.engine.leave()
	return s.settings.Load().wait(r, c.draw)
}

// wait holds the call for its latency and reports whether its client is still
// there.
func (s *settings) wait(r *http.Request, d draw) bool { return s.hold(r, s.latency, d) }

func (s *settings) hold(r *http.Request, l latency, d draw) bool {
	if l.hang {
		select {
		case <-s.replaced:
			return true
		case <-r.Context().Done():
			return false
		}
	}
	delay := l.of(d)
	if delay == 0 {
		return true
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

func (s *settings) writeInjected(w http.ResponseWriter, c *call, status int, message string) {
	if s.RetryAfterSeconds > 0 && (status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable) {
		w.Header().Set("Retry-After", strconv.Itoa(s.RetryAfterSeconds))
	}
	setRequestID(w, c)
	writeError(w, status, message)
}

func setRequestID(w http.ResponseWriter, c *call) {
	w.Header()["X-Request-Id"] = []string{"req_" + strconv.FormatUint(c.draw.perCall(forID), 16)}
}
