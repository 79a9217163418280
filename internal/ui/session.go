package ui

import (
	"net/http"
	"net/url"

	"fusillade/internal/api"
)

// signedIn serves who is signed in; others are asked to.
func (u *UI) signedIn(serve func(http.ResponseWriter, *http.Request, view)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := u.cfg.API.Caller(r)
		v := view{Who: who}
		if err != nil {
			u.fail(w, r, v, err)
			return
		}
		if cookie := u.cfg.API.RenewSession(r); cookie != nil {
			http.SetCookie(w, cookie)
		}
		serve(w, r, v)
	})
}

// askToSignIn leads to the page that does, and from there back.
func (u *UI) askToSignIn(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Accept") == "text/event-stream" {
		w.WriteHeader(http.StatusNoContent) // the browser does not try again
		return
	}
	to := "/ui/sign-in"
	if r.Method == http.MethodGet && r.URL.Path != "/ui/" {
		to += "?next=" + url.QueryEscape(r.URL.RequestURI())
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// signInData is what the page to sign in shows.
type signInData struct{ Next, Wrong string }

func (signInData) Title() string { return "Sign in" }
func (signInData) Ended() bool   { return true }

func (u *UI) signInPage(w http.ResponseWriter, r *http.Request) {
	next := local(r.URL.Query().Get("next"))
	if _, err := u.cfg.API.Caller(r); err == nil {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	u.render(w, r, http.StatusOK, "sign-in", view{Data: signInData{Next: next}})
}

// maxFormBytes is far above the largest form.
const maxFormBytes = 1 << 20

func (u *UI) signIn(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxFormBytes)
	next := local(r.PostFormValue("next"))
	cookie, err := u.cfg.API.BeginSession(r, r.PostFormValue("key"))
	if err != nil {
		status, message := u.cfg.API.Failure(err)
		u.render(w, r, status, "sign-in", view{Data: signInData{next, message}})
		return
	}
	http.SetCookie(w, cookie)
	http.Redirect(w, r, next, http.StatusSeeOther)
}

func (u *UI) signOut(w http.ResponseWriter, r *http.Request) {
	cookie, err := u.cfg.API.EndSession(r)
	if err != nil {
		u.fail(w, r, view{Who: api.Caller{}}, err)
		return
	}
	http.SetCookie(w, cookie)
	http.Redirect(w, r, "/ui/sign-in", http.StatusSeeOther)
}
