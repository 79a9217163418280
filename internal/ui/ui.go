package ui

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"

	"github.com/nats-io/nats.go"

	"fusillade/internal/api"
	"fusillade/internal/batch"
	"fusillade/internal/control"
	"fusillade/internal/postgres"
	"fusillade/internal/tally"
)

//go:embed static
var staticFiles embed.FS

// controller knows what the broker knows of models.
type controller interface {
	Models(ctx context.Context) ([]control.ModelStatus, error)
}

// Config says what the dashboard shows. All fields but Prices are required.
type Config struct {
	API        *api.Server // that it is a part of
	Store      *postgres.Store
	Controller controller
	Conn       *nats.Conn
	Log        *slog.Logger
	Prices     batch.Prices // of models; a model without one has no costs
}

// UI is the dashboard. It is safe for concurrent use.
type UI struct {
	cfg     Config
	sampler *sampler
	views   views
	often   *tally.Log // of failures that many pages share
}

// New makes the dashboard a part of the API's server, which must not run yet.
func New(cfg Config) (*UI, error) {
	if cfg.API == nil || cfg.Store == nil || cfg.Controller == nil || cfg.Conn == nil || cfg.Log == nil {
		return nil, errors.New("configuring the dashboard: API, Store, Controller, Conn and Log are required")
	}
	views, err := parseViews()
	if err != nil {
		return nil, fmt.Errorf("configuring the dashboard: %w", err)
	}
	u := &UI{cfg: cfg, sampler: newSampler(cfg.Store, cfg.Log), views: views, often: tally.New(cfg.Log, 0)}
	static, err := fs.Sub(staticFiles, "static")
	if err != nil {
		return nil, err
	}
	cfg.API.Background(u.sampler.run)
	cfg.API.Background(u.often.Run)
	cfg.API.Handle("GET /{$}", http.RedirectHandler("/ui/", http.StatusSeeOther))
	cfg.API.Handle("GET /ui", http.RedirectHandler("/ui/", http.StatusSeeOther))
	cfg.API.Handle("GET /ui/static/", headers(cached(http.StripPrefix("/ui/static/", http.FileServerFS(static)))))
	cfg.API.Handle("GET /ui/sign-in", headers(http.HandlerFunc(u.signInPage)))
	cfg.API.Handle("POST /ui/sign-in", headers(http.HandlerFunc(u.signIn)))
	cfg.API.Handle("POST /ui/sign-out", headers(http.HandlerFunc(u.signOut)))
	cfg.API.Handle("POST /ui/do/{action}", headers(u.signedIn(u.act)))
	for _, p := range u.pages() {
		cfg.API.Handle("GET "+p.pattern, headers(u.signedIn(u.show(p))))
	}
	cfg.API.Handle("GET /ui/", headers(u.signedIn(func(w http.ResponseWriter, r *http.Request, v view) {
		u.fail(w, r, v, errNoPage)
	})))
	return u, nil
}

// pages are all that are shown.
func (u *UI) pages() []page {
	return []page{
		{pattern: "/ui/{$}", name: "overview", read: u.overview},
		{pattern: "/ui/batches", name: "batches", read: u.batches},
		{pattern: "/ui/batches/{id}", name: "batch", read: u.batch},
		{pattern: "/ui/batches/{id}/requests", name: "requests", read: u.requests},
		{pattern: "/ui/batches/{id}/requests/{line}", name: "request", read: u.request},
		{pattern: "/ui/files", name: "files", read: u.files},
		{pattern: "/ui/files/{id}", name: "file", read: u.file},
		{pattern: "/ui/models", name: "models", read: u.models},
		{pattern: "/ui/daemons", name: "daemons", read: u.daemons, operators: true},
		{pattern: "/ui/keys", name: "keys", read: u.keys, operators: true},
		{pattern: "/ui/webhooks", name: "webhooks", read: u.webhooks, operators: true},
		{pattern: "/ui/owners", name: "owners", read: u.owners, operators: true},
	}
}

// policy allows nothing that is not a file of ours.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func headers(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Content-Security-Policy", policy)
		header.Set("Referrer-Policy", "same-origin")
		header.Set("Cross-Origin-Opener-Policy", "same-origin")
		header.Set("Cache-Control", "no-store")
		h.ServeHTTP(w, r)
	})
}

// cached has a file kept by browsers. Pages name it with the version that they need.
func cached(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=86400")
		h.ServeHTTP(w, r)
	})
}
