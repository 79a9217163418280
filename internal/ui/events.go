package ui

import (
	"bytes"
	"crypto/sha256"
	"net/http"
	"time"
)

const (
	// eventInterval is how often a page's data is read again, for each who looks at it.
	eventInterval = 2 * time.Second
	// keepAlive is the longest silence on a stream of events, and writeTimeout how
	// long a browser may take to receive an event.
	keepAlive, writeTimeout = 15 * time.Second, 30 * time.Second
)

// events sends what a page's template "live" makes of its data, now and whenever
// that changes, until the page has ended, the browser leaves or the server stops.
func (u *UI) events(w http.ResponseWriter, r *http.Request, p page, v view) {
	ctx, leave, err := u.cfg.API.Watch(r, v.Who.Owner)
	if err != nil {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	defer leave()
	r = r.WithContext(ctx)
	w.Header().Set("Content-Type", "text/event-stream")
	v.Version, v.Path = u.views.version, r.URL.RequestURI()
	control := http.NewResponseController(w)
	send := func(text []byte) bool {
		_ = control.SetWriteDeadline(time.Now().Add(writeTimeout))
		_, err := w.Write(text)
		return err == nil && control.Flush() == nil
	}
	tick := time.NewTicker(eventInterval)
	defer tick.Stop()
	var last [sha256.Size]byte
	var sent time.Time
	for {
		// A key may have been revoked, or a session ended.
		who, err := u.cfg.API.Caller(r)
		if err == nil && who == v.Who {
			v.Data, err = p.read(r, who)
		}
		var fragment bytes.Buffer
		switch {
		case err != nil && ctx.Err() != nil, who != v.Who:
			return
		case err != nil: // what is shown stays, and the next look may succeed
		default:
			if err := u.views.pages[p.name].ExecuteTemplate(&fragment, "live", v); err != nil {
				u.cfg.Log.Error("page", "page", p.name, "err", err)
				return
			}
		}
		if hash := sha256.Sum256(fragment.Bytes()); fragment.Len() > 0 && hash != last {
			if last, sent = hash, time.Now(); !send(event("live", fragment.Bytes())) {
				return
			}
		}
		if e, ok := v.Data.(ended); ok && e.Ended() {
			send(event("end", nil))
			return
		}
		if time.Since(sent) > keepAlive {
			if sent = time.Now(); !send([]byte(": still here\n\n")) {
				return
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// event writes text as the data of an event.
func event(name string, text []byte) []byte {
	out := []byte("event: " + name + "\n")
	for line := range bytes.Lines(text) {
		if line = bytes.TrimRight(line, "\r\n"); len(bytes.TrimSpace(line)) > 0 {
			out = append(append(append(out, "data: "...), bytes.ReplaceAll(line, []byte("\r"), nil)...), '\n')
		}
	}
	if len(text) == 0 {
		out = append(out, "data:\n"...)
	}
	return append(out, '\n')
}
