package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"fusillade/internal/postgres"
	"fusillade/internal/seal"
)

const (
	dialTimeout = 5 * time.Second
	// discarded is how much of an answer is read, so that its sender sees it taken.
	discarded = 64 << 10
)

func newClient(allowPrivate bool) *http.Client {
	dialer := &net.Dialer{Timeout: dialTimeout}
	if !allowPrivate {
		dialer.Control = refusePrivate
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSHandshakeTimeout: dialTimeout, DisableKeepAlives: true, MaxResponseHeaderBytes: discarded,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Send makes one attempt. It returns the status, 0 without an answer, and an
// error unless the endpoint took the event. The error's text is safe to store
// and to show: it holds nothing of URL, secret or answer.
func (s *Sender) Send(ctx context.Context, d postgres.WebhookDelivery) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	req, err := s.request(ctx, d)
	if err != nil {
		return 0, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, errors.New(describe(err))
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, discarded)
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return resp.StatusCode, fmt.Errorf("it answered with status %d", resp.StatusCode)
	}
	return resp.StatusCode, nil
}

func (s *Sender) request(ctx context.Context, d postgres.WebhookDelivery) (*http.Request, error) {
	secret, err := s.cfg.Keyring.Open(seal.WebhookSecret(d.Webhook.ID, d.Webhook.URL), d.Webhook.Secret)
	if err != nil {
		return nil, fmt.Errorf("its secret cannot be decrypted: %w", err)
	}
	signer, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return nil, errors.New("its secret is malformed")
	}
	payload, err := body(d)
	if err != nil {
		return nil, errors.New("the event cannot be encoded")
	}
	now := time.Now()
	signature, err := signer.Sign(eventID(d), now, payload)
	if err != nil {
		return nil, errors.New("the event cannot be signed")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.Webhook.URL, bytes.NewReader(payload))
	if err != nil {
		return nil, errors.New("its URL cannot be used")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "fusillade")
	req.Header.Set(standardwebhooks.HeaderWebhookID, eventID(d))
	req.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	return req, nil
}

// describe goes by the error's type: its text quotes the URL, and may quote
// what was answered.
func describe(err error) string {
	var dns *net.DNSError
	var netErr net.Error
	var op *net.OpError
	switch {
	case errors.Is(err, errPrivate):
		return errPrivate.Error() + "; FUSILLADE_WEBHOOK_ALLOW_PRIVATE is not true"
	case errors.As(err, &dns):
		return "its host cannot be looked up"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return "it did not answer in time"
	case errors.As(err, &op) && op.Op == "dial":
		return "it cannot be connected to"
	}
	return "the connection broke, or its answer was malformed"
}
