package postgres

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
)

func addWebhook(t testing.TB, s *Store, owner, url string) string {
	t.Helper()
	id, err := s.CreateWebhook(t.Context(), owner, url, func(id string) ([]byte, error) { return []byte("secret of " + id), nil })
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// Whatever ends a batch, each endpoint of its owner is told once, and nobody
// else; what does not end it tells nobody; a retry that ends is another event.
func TestEndsOfBatchesAreEvents(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		end  func(t *testing.T, s *Store, d batch.DaemonID, id batch.ID)
		want string
	}{
		"completed": {want: "batch.completed", end: func(t *testing.T, s *Store, d batch.DaemonID, id batch.ID) {
			for _, delivery := range started(t, s, d, id, 2) {
				finish(t, s, d, completed(delivery))
			}
		}},
		"failed": {want: "batch.failed", end: func(t *testing.T, s *Store, d batch.DaemonID, id batch.ID) {
			finish(t, s, d, endings(failed, started(t, s, d, id, 2))...)
		}},
		"cancelled": {want: "batch.cancelled", end: func(t *testing.T, s *Store, _ batch.DaemonID, id batch.ID) {
			if _, err := s.CancelBatch(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}},
		"cancelled line by line": {want: "batch.cancelled", end: func(t *testing.T, s *Store, _ batch.DaemonID, id batch.ID) {
			for line := range int32(2) {
				if _, err := s.CancelRequests(t.Context(), id, []int32{line + 1}); err != nil {
					t.Fatal(err)
				}
			}
		}},
		"deleted": {want: "batch.cancelled", end: func(t *testing.T, s *Store, _ batch.DaemonID, id batch.ID) {
			if _, err := s.DeleteBatch(t.Context(), id); err != nil {
				t.Fatal(err)
			}
		}},
		"file deleted": {want: "batch.cancelled", end: func(t *testing.T, s *Store, _ batch.DaemonID, id batch.ID) {
			b, err := s.GetBatch(t.Context(), id, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.DeleteFile(t.Context(), b.File); err != nil {
				t.Fatal(err)
			}
		}},
		"expired": {want: "batch.expired", end: func(t *testing.T, s *Store, _ batch.DaemonID, id batch.ID) {
			sqlExec(t, s, `UPDATE batches SET expires_at = now() - interval '1 s' WHERE id = $1`, [16]byte(id))
			if _, err := s.ExpireBatches(t.Context(), 0, 10); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			d := newDaemon(t, s)
			mine := []string{addWebhook(t, s, creator, "http://one"), addWebhook(t, s, creator, "http://two")}
			addWebhook(t, s, "mallory", "http://three")
			id := newBatch(t, s, 2)
			if n := sqlInt(t, s, `SELECT count(*) FROM webhook_deliveries`); n != 0 {
				t.Errorf("%d events before the end", n)
			}
			test.end(t, s, d, id)
			due, err := s.ClaimDeliveries(t.Context(), DeliveryPlaces{All: 10, Endpoint: 10, Owner: 10}, time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			var told []string
			for _, e := range due {
				told = append(told, e.Webhook.ID)
				if e.Type != test.want || e.Batch != id || e.Attempt != 1 || e.Event != due[0].Event || string(e.Webhook.Secret) != "secret of "+e.Webhook.ID {
					t.Errorf("event %+v, want %s", e, test.want)
				}
			}
			slices.Sort(told)
			slices.Sort(mine)
			if diff := cmp.Diff(mine, told); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
			if test.want != "batch.failed" {
				return
			}
			if n, err := s.RerunRequests(t.Context(), id, batch.Allowance{}, batch.Failed); err != nil || n != 2 {
				t.Fatal(n, err)
			}
			if _, err := s.CancelBatch(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			again, err := s.ClaimDeliveries(t.Context(), DeliveryPlaces{All: 10, Endpoint: 10, Owner: 10}, time.Hour)
			if err != nil || len(again) != 2 || again[0].Type != "batch.cancelled" || again[0].Event == due[0].Event {
				t.Errorf("after a retry: %+v, %v", again, err)
			}
		})
	}
}

// The claim leases: it passes over busy endpoints, takes so many of each, the
// longest due first; and a settlement of an attempt whose lease ran out is void.
func TestClaimDeliveries(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	one, two := addWebhook(t, s, creator, "http://one"), addWebhook(t, s, creator, "http://two")
	sqlExec(t, s, `
INSERT INTO webhook_deliveries (event_id, webhook_id, type, batch_id, next_attempt_at)
SELECT gen_random_uuid(), id, 'batch.completed', gen_random_uuid(), now() - n * interval '1 s' FROM webhooks, generate_series(1, 6) n`)
	claim := func(busy [][16]byte, each, n int) (of map[string]int, all []WebhookDelivery) {
		t.Helper()
		all, err := s.ClaimDeliveries(t.Context(), DeliveryPlaces{All: n, Endpoint: each, Busy: busy, Owner: 100}, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		of = make(map[string]int)
		for _, d := range all {
			of[d.Webhook.ID]++
		}
		return of, all
	}
	of, first := claim(nil, 2, 10)
	if of[one] != 2 || of[two] != 2 {
		t.Errorf("claimed %v", of)
	}
	busy := first[0]
	if of, _ := claim([][16]byte{busy.Endpoint()}, 10, 3); of[busy.Webhook.ID] != 0 || len(of) != 1 {
		t.Errorf("beside a busy one: %v", of)
	}
	// The lease of an attempt has run out.
	sqlExec(t, s, `UPDATE webhook_deliveries SET next_attempt_at = now() - interval '1 day' WHERE encode(uuid_send(event_id), 'hex') = $1`, busy.Event)
	_, second := claim(nil, 1, 1)
	if len(second) != 1 || second[0].Event != busy.Event || second[0].Attempt != 2 {
		t.Fatalf("claimed again: %+v", second)
	}
	settled := func() int64 {
		t.Helper()
		return sqlInt(t, s, `SELECT count(*) FROM webhook_deliveries WHERE next_attempt_at IS NULL`)
	}
	settle := func(d WebhookDelivery, o DeliveryResult) {
		t.Helper()
		if err := s.RecordDelivery(t.Context(), d, o); err != nil {
			t.Fatal(err)
		}
	}
	settle(busy, DeliveryResult{Error: "too late"})
	if n := settled(); n != 0 {
		t.Errorf("%d settled by an old attempt", n)
	}
	settle(second[0], DeliveryResult{Status: 500, Error: "no", Retry: time.Minute})
	if n := sqlInt(t, s, `SELECT count(*) FROM webhook_deliveries WHERE last_status = 500 AND next_attempt_at BETWEEN now() AND now() + interval '1 minute'`); n != 1 {
		t.Errorf("%d are retried", n)
	}
	settle(first[1], DeliveryResult{Delivered: true, Status: 204})
	settle(first[2], DeliveryResult{Error: "given up"})
	if n := settled(); n != 2 {
		t.Errorf("%d settled", n)
	}
	if n, err := s.PurgeDeliveries(t.Context(), time.Hour, 10); err != nil || n != 0 {
		t.Errorf("%d purged, %v", n, err)
	}
	if n, err := s.PurgeDeliveries(t.Context(), -time.Hour, 10); err != nil || n != 2 {
		t.Errorf("%d purged, %v", n, err)
	}
	if err := s.DeleteWebhook(t.Context(), one); err != nil {
		t.Fatal(err)
	}
	wantErr(t, s.DeleteWebhook(t.Context(), one), batch.ErrNotFound)
	if n := sqlInt(t, s, `SELECT count(DISTINCT webhook_id) FROM webhook_deliveries`); n != 1 {
		t.Errorf("events of %d endpoints are left", n)
	}
}

func TestWebhooksAreBounded(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	if exist, err := s.HasWebhooks(t.Context()); exist || err != nil {
		t.Errorf("there are webhooks at first: %v, %v", exist, err)
	}
	for i := range MaxWebhooks {
		addWebhook(t, s, creator, fmt.Sprintf("http://host/%d", i))
	}
	_, err := s.CreateWebhook(t.Context(), creator, "http://more", func(string) ([]byte, error) { return []byte("x"), nil })
	wantErr(t, err, batch.ErrTooMany)
	addWebhook(t, s, "bob", "http://bob")
	if exist, err := s.HasWebhooks(t.Context()); !exist || err != nil {
		t.Errorf("there are webhooks: %v, %v", exist, err)
	}
	list, err := s.Webhooks(t.Context())
	if err != nil || len(list) != MaxWebhooks+1 || list[0].URL != "http://host/0" || list[MaxWebhooks].Owner != "bob" {
		t.Errorf("%d listed, %v", len(list), err)
	}
}

// While an owner's webhook is being deleted, however long that takes, the result
// that finishes a batch is stored at once. The webhook has the event unless the
// deletion was committed before: one that fails has lost nothing.
func TestBatchFinishesWhileAWebhookIsDeleted(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		marked    bool // the first transaction of the deletion was committed
		statement string
		commit    bool
		told      int
	}{
		"the mark fails":      {statement: markWebhookSQL, told: 2},
		"the mark is late":    {statement: markWebhookSQL, commit: true, told: 1},
		"the removal fails":   {marked: true, statement: removeWebhooksSQL, told: 1},
		"the removal is late": {marked: true, statement: removeWebhooksSQL, commit: true, told: 1},
		// As the code before the mark does.
		"at once": {statement: `DELETE FROM webhooks WHERE encode(uuid_send(id), 'hex') = $1`, commit: true, told: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			d := newDaemon(t, s)
			going, staying := addWebhook(t, s, creator, "http://one"), addWebhook(t, s, creator, "http://two")
			id := newBatch(t, s, 1)
			deliveries := started(t, s, d, id, 1)
			args := []any{going}
			if test.marked {
				if n, err := s.exec(t.Context(), markWebhookSQL, going); err != nil || n != 1 {
					t.Fatal(n, err)
				}
				args = nil
			}
			deletion, err := s.pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = deletion.Rollback(context.WithoutCancel(t.Context())) }()
			if tag, err := deletion.Exec(t.Context(), test.statement, args...); err != nil || tag.RowsAffected() != 1 {
				t.Fatal(tag, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if written, err := s.Finish(ctx, d, endings(completed, deliveries), nil); err != nil || len(written) != 1 {
				t.Fatalf("%d results were stored during the deletion, %v", len(written), err)
			}
			if test.commit {
				err = deletion.Commit(t.Context())
			} else {
				err = deletion.Rollback(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			due, err := s.ClaimDeliveries(t.Context(), DeliveryPlaces{All: 10, Endpoint: 10, Owner: 10}, time.Hour)
			if err != nil || len(due) != test.told || !slices.ContainsFunc(due, func(d WebhookDelivery) bool { return d.Webhook.ID == staying }) {
				t.Errorf("%+v, %v: want %d", due, err, test.told)
			}
			// What was cut off is removed by the next purge.
			if _, err := s.PurgeDeliveries(t.Context(), time.Hour, 10); err != nil {
				t.Fatal(err)
			}
			if n := sqlInt(t, s, `SELECT count(*) FROM webhooks`); n != int64(test.told) {
				t.Errorf("%d webhooks are left, want %d", n, test.told)
			}
			check(t, s)
		})
	}
}
