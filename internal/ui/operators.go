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
func (u *UI) createKey(r *http.Request, who api.Caller, id string) (string, error) {
	made, token, err := operator.CreateKey(r.Context(), u.cfg.Store, operator.NewKey{
		Owner: strings.TrimSpace(id), Name: strings.TrimSpace(r.PostFormValue("name")), Admin: r.PostFormValue("admin") == "yes",
	})
	if err != nil {
		return "", mended(err)
	}
	u.cfg.API.Audit(who, "API key created", "created_key_id", made, "owner", strings.TrimSpace(id), "operator", r.PostFormValue("admin") == "yes")
	return "The new key, which is shown this once: " + token, nil
}

func (u *UI) revokeKey(r *http.Request, who api.Caller, id string) (string, error) {
	return u.done(who, operator.RevokeKey(r.Context(), u.cfg.Store, id), "API key revoked", "revoked_key_id", id)
}

func (u *UI) deleteWebhook(r *http.Request, who api.Caller, id string) (string, error) {
	return u.done(who, operator.DeleteWebhook(r.Context(), u.cfg.Store, id), "webhook deleted", "webhook_id", id)
}

// done logs what an operator has done, if they have.
func (u *UI) done(who api.Caller, err error, what string, attrs ...any) (string, error) {
	if err == nil {
		u.cfg.API.Audit(who, what, attrs...)
	}
	return "", mended(err)
}

// resendDelivery has an event delivered again; id is its own and, after a dot, that of the
// endpoint.
func (u *UI) resendDelivery(r *http.Request, who api.Caller, id string) (string, error) {
	event, webhook, _ := strings.Cut(id, ".")
	return u.done(who, u.cfg.Store.Resend(r.Context(), webhook, event), "webhook delivery made again", "webhook_id", webhook, "event_id", event)
}

func (u *UI) weighOwner(r *http.Request, who api.Caller, id string) (string, error) {
	weight, err := strconv.ParseFloat(strings.TrimSpace(r.PostFormValue("weight")), 64)
	if err != nil {
		return "", api.Invalid("The weight must be a number; 0 removes it.")
	}
	return u.done(who, operator.SetOwnerWeight(r.Context(), u.cfg.Store, u.cfg.Conn, id, weight), "weight of an owner changed", "owner", id, "weight", weight)
}
