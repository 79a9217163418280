package control

import (
	"context"

	"fusillade/internal/batch"
)

// DeleteFile deletes a file. Batches of it that have not finished are cancelled,
// and returned; the results of all of them stay.
func (c *Controller) DeleteFile(ctx context.Context, id batch.FileID) ([]batch.ID, error) {
	cancelled, err := c.cfg.Store.DeleteFile(ctx, id)
	for _, b := range cancelled {
		c.announceCancel(ctx, b)
	}
	return cancelled, err
}
