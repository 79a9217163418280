package api

import (
	"context"

	"fusillade/internal/batch"
	"fusillade/internal/hold"
)

// maxHolds bounds those that are shown of one model.
const maxHolds = 20

// holdObject is a hold of a model's calls: a pause that its endpoint asked for, or,
// with a cause, one until the endpoint refuses them no more.
type holdObject struct {
	BatchID *string `json:"batch_id"` // whose own API key it is of; null: all batches without one
	Status  int     `json:"status"`   // of the response that asked for it
	Since   int64   `json:"since"`
	Until   int64   `json:"until"` // with a cause: when the next call finds out
	// Of those with a cause.
	Cause  *string `json:"cause"`
	Detail *string `json:"detail"` // it may name a host
	Owner  *string `json:"owner"`  // whose requests alone are held
	Action *string `json:"action"`
}

func asHolds(holds []hold.Hold) []holdObject {
	out := make([]holdObject, 0, min(len(holds), maxHolds))
	for _, h := range holds[:min(len(holds), maxHolds)] {
		o := holdObject{Status: h.Status, Since: h.Since.Unix(), Until: h.Until.Unix()}
		if h.Batch != (batch.ID{}) {
			o.BatchID = optional(h.Batch.String())
		}
		if h.Cause != "" {
			info := h.Cause.Info()
			o.Cause, o.Detail, o.Owner, o.Action = optional(string(info.Cause)), optional(h.Detail), optional(h.Owner), optional(info.Advice+".")
		}
		out = append(out, o)
	}
	return out
}

// liftParams name the model whose holds end, and perhaps the only batch.
type liftParams struct {
	model string
	batch batch.ID
}

func (p *liftParams) read(in *input) {
	p.model, _ = in.text("model", maxModelBytes)
	in.required("model", p.model, maxModelBytes)
	if id, given := in.text("batch_id", maxIDBytes); given {
		var ok bool
		if p.batch, ok = parseBatchID(id); !ok {
			in.fail(invalid("batch_id", codeInvalid, "batch_id is not the id of a batch."))
		}
	}
}

type liftedObject struct {
	Object string `json:"object"`
	Lifted int    `json:"lifted"`
}

func (s *Server) liftHolds(ctx context.Context, who caller, p liftParams) (liftedObject, error) {
	n, err := s.cfg.Controller.LiftHolds(ctx, batch.Model(p.model), p.batch)
	if err == nil {
		s.Audit(s.public(who), "holds of a model lifted", "model", p.model, "holds", n)
	}
	return liftedObject{Object: "admin.holds", Lifted: n}, err
}
