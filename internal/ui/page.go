package ui

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"fusillade/internal/api"
	"fusillade/internal/batch"
)

//go:embed templates
var templateFiles embed.FS

// errNoPage is of an address that no page has.
var errNoPage = fmt.Errorf("no such page: %w", batch.ErrNotFound)

// page is a page of the dashboard.
type page struct {
	pattern   string // of http.ServeMux
	name      string // of its template
	operators bool   // it is theirs alone
	// read returns what the template shows. It has the title of the page, and
	// whether it can change by itself.
	read func(r *http.Request, who api.Caller) (any, error)
}

// ended is data that does not change any more.
type ended interface{ Ended() bool }

// titled is data that has a title of its own.
type titled interface{ Title() string }

// view is what every template is given.
type view struct {
	Page    string
	Who     api.Caller
	Path    string // with the query
	Version string // of the static files
	Notice  string // what an action did
	Data    any
}

// Title is that of the page.
func (v view) Title() string {
	if t, ok := v.Data.(titled); ok {
		return t.Title()
	}
	if v.Page == "" {
		return "Fusillade"
	}
	return strings.ToUpper(v.Page[:1]) + v.Page[1:]
}

// Live is where the page's changes are sent; empty: it has none.
func (v view) Live() string {
	if e, ok := v.Data.(ended); ok && e.Ended() {
		return ""
	}
	return v.Path
}

// views are the templates by the name of their page.
type views struct {
	pages   map[string]*template.Template
	version string
}

func parseViews() (v views, err error) {
	v.pages = make(map[string]*template.Template)
	base, err := template.New("").Funcs(functions).ParseFS(templateFiles, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return v, err
	}
	names, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		return v, err
	}
	for _, path := range names {
		name := strings.TrimSuffix(strings.TrimPrefix(path, "templates/"), ".html")
		if name == "layout" || name == "parts" {
			continue
		}
		t, err := base.Clone()
		if err == nil {
			t, err = t.ParseFS(templateFiles, path)
		}
		if err != nil {
			return v, err
		}
		v.pages[name] = t
	}
	hash := sha256.New()
	err = fs.WalkDir(staticFiles, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(staticFiles, path)
		hash.Write(content)
		return err
	})
	v.version = hex.EncodeToString(hash.Sum(nil)[:6])
	return v, err
}

// show serves a page, or the events of its changes.
func (u *UI) show(p page) func(http.ResponseWriter, *http.Request, view) {
	return func(w http.ResponseWriter, r *http.Request, v view) {
		v.Page = p.name
		if p.operators && !v.Who.Admin {
			u.fail(w, r, v, api.ErrOperatorsOnly)
			return
		}
		if r.Header.Get("Accept") == "text/event-stream" {
			u.events(w, r, p, v)
			return
		}
		var err error
		if v.Data, err = p.read(r, v.Who); err != nil {
			u.fail(w, r, v, err)
			return
		}
		u.render(w, r, http.StatusOK, p.name, v)
	}
}

// render sends a page.
func (u *UI) render(w http.ResponseWriter, r *http.Request, status int, name string, v view) {
	v.Version, v.Path = u.views.version, r.URL.RequestURI()
	v.Notice = notice(r)
	var body bytes.Buffer
	if err := u.views.pages[name].ExecuteTemplate(&body, "layout", v); err != nil {
		u.cfg.Log.Error("page", "page", name, "err", err)
		http.Error(w, "The page could not be made.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // the client is gone: there is nobody left to tell
}

// failure is what the page of an error shows.
type failure struct {
	Status  int
	Message string
}

func (f failure) Title() string { return http.StatusText(f.Status) }
func (f failure) Ended() bool   { return true }

// fail shows an error as the API tells it, or asks to sign in.
func (u *UI) fail(w http.ResponseWriter, r *http.Request, v view, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		panic(http.ErrAbortHandler)
	}
	status, message := u.cfg.API.Failure(err)
	if errors.Is(err, errNoPage) {
		message = "There is no such page."
	}
	if status == http.StatusUnauthorized {
		u.askToSignIn(w, r)
		return
	}
	switch {
	case status == http.StatusServiceUnavailable: // while Postgres or NATS is away every page fails
		u.often.Add(slog.LevelError, "page failed: Postgres or NATS is away", nil, "page", v.Page, "err", err)
	case status >= http.StatusInternalServerError:
		u.cfg.Log.Error("page failed", "page", v.Page, "err", err)
	}
	v.Data = failure{status, message}
	u.render(w, r, status, "failure", v)
}

// local returns a path of the dashboard as it was sent, or its first page.
func local(path string) string {
	u, err := url.Parse(path)
	if err != nil || u.IsAbs() || u.Host != "" || u.Path != "/ui/" && !strings.HasPrefix(u.Path, "/ui/") || strings.Contains(path, "\\") {
		return "/ui/"
	}
	return u.RequestURI()
}
