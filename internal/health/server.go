package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 16 << 10
	// profileTimeout is above the 30 s that a CPU profile takes where nothing else
	// is asked for.
	profileTimeout = 5 * time.Minute
	// stopTimeout is how long requests in the middle may take once Run was told
	// to stop.
	stopTimeout = 3 * time.Second
	// scrapeTimeout and scrapesAtOnce bound what scrapes cost.
	scrapeTimeout = 10 * time.Second
	scrapesAtOnce = 4
)

// Config says what a Server serves.
type Config struct {
	// Addr is where to listen, as host:port; port 0 takes a free one.
	Addr string
	// Alive says what keeps the process from making progress; nil: nothing does.
	// It must not wait.
	Alive func() error
	// Ready lists what must hold for the process to take work.
	Ready []Check
	// Metrics are what /metrics shows.
	Metrics prometheus.Gatherer
	// Exemplars serves OpenMetrics to who asks for it, and with it the exemplars of
	// histograms. Bounds of buckets are spelled otherwise there: 1.0 for 1.
	Exemplars bool
	// Profiles serves /debug/pprof/, which shows what the process has in memory.
	Profiles bool
	Log      *slog.Logger
}

// Server is an HTTP server for operators.
type Server struct {
	cfg      Config
	listener net.Listener
	http     *http.Server
	turn     chan struct{} // held by the one /readyz that checks
}

// New listens, so that what comes before Run waits for it. Run must follow.
func New(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Alive == nil || cfg.Metrics == nil || cfg.Log == nil {
		return nil, errors.New("admin: Alive, Metrics and Log are required")
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.Addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("FUSILLADE_ADMIN_ADDR is %s, which is in use; choose another port, or 0 for a free one", cfg.Addr)
	}
	if err != nil {
		return nil, fmt.Errorf("FUSILLADE_ADMIN_ADDR is %s, where this process cannot listen: %w", cfg.Addr, err)
	}
	s := &Server{cfg: cfg, listener: listener, turn: make(chan struct{}, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", s.livez)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Metrics, promhttp.HandlerOpts{
		ErrorLog: scrapeLog{cfg.Log}, MaxRequestsInFlight: scrapesAtOnce, Timeout: scrapeTimeout, EnableOpenMetrics: cfg.Exemplars,
	}))
	s.http = &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	if cfg.Profiles {
		s.http.WriteTimeout = profileTimeout
		mux.HandleFunc("GET /debug/pprof/", pprof.Index) // and heap, goroutine and so on
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return s, nil
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Run serves until ctx ends, and lets requests in the middle end.
func (s *Server) Run(ctx context.Context) error {
	s.cfg.Log.Info("admin server listens", "addr", s.Addr().String())
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serving health and metrics: %w", err)
	case <-ctx.Done():
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	err := s.http.Shutdown(stopping)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close()
	}
	if serveErr := <-served; err == nil && !errors.Is(serveErr, http.ErrServerClosed) {
		err = serveErr
	}
	if err != nil {
		return fmt.Errorf("stopping the admin server: %w", err)
	}
	return nil
}

// scrapeLog logs what keeps /metrics from being complete.
type scrapeLog struct{ log *slog.Logger }

// Println implements promhttp.Logger.
func (l scrapeLog) Println(v ...any) { l.log.Warn("gathering metrics", "err", fmt.Sprint(v...)) }
