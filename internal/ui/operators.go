package ui

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"fusillade/internal/api"
	"fusillade/internal/operator"
	"fusillade/internal/postgres"
)

// mended makes what an operator can mend an answer to them.
func mended(err error) error {
	var input *operator.InputError
	switch {
	case errors.As(err, &input):
		return api.Invalid(strings.ToUpper(input.Text[:1]) + input.Text[1:] + ".")
	case postgres.LacksPrivilege(err):
		return api.Invalid("The database role of this server may not do that. Do it with the fusillade command line, or have deploy/postgres/dashboard.sql run once.")
	}
	return err
}

// createKey makes an API key of the owner id.
func (u *UI) createKey(r *http.Request, _ api.Caller, id string) (string, error) {
	_, token, err := operator.CreateKey(r.Context(), u.cfg.Store, operator.NewKey{
		Owner: strings.TrimSpace(id), Name: strings.TrimSpace(r.PostFormValue("name")), Admin: r.PostFormValue("admin") == "yes",
	})
	if err != nil {
		return "", mended(err)
	}
	return "The new key, which is shown this once: " + token, nil
}

func (u *UI) revokeKey(r *http.Request, _ api.Caller, id string) (string, error) {
	return "", mended(operator.RevokeKey(r.Context(), u.cfg.Store, id))
}

func (u *UI) deleteWebhook(r *http.Request, _ api.Caller, id string) (string, error) {
	return "", mended(operator.DeleteWebhook(r.Context(), u.cfg.Store, id))
}

// resendDelivery has an event delivered again; id is its own and, after a dot, that of the
// endpoint.
func (u *UI) resendDelivery(r *http.Request, _ api.Caller, id string) (string, error) {
	event, webhook, _ := strings.Cut(id, ".")
	return "", mended(u.cfg.Store.Resend(r.Context(), webhook, event))
}

func (u *UI) weighOwner(r *http.Request, _ api.Caller, id string) (string, error) {
	weight, err := strconv.ParseFloat(strings.TrimSpace(r.PostFormValue("weight")), 64)
	if err != nil {
		return "", api.Invalid("The weight must be a number; 0 removes it.")
	}
	return "", mended(operator.SetOwnerWeight(r.Context(), u.cfg.Store, u.cfg.Conn, id, weight))
}
