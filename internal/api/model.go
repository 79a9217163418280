package api

import (
	"context"
	"slices"

	"fusillade/internal/batch"
)

type modelObject struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

func asModel(name string) modelObject {
	return modelObject{ID: name, Object: "model", OwnedBy: "fusillade"}
}

func (m modelObject) id() string { return m.ID }

// ModelNames returns the models that an owner knows: those that are
// configured, and those that the owner's own files ask for. Others' stay unknown.
func (s *Server) ModelNames(ctx context.Context, owner string) ([]string, error) {
	names, err := s.cfg.Store.OwnerModels(ctx, owner)
	if err != nil {
		return nil, err
	}
	settings, err := s.cfg.Store.ModelSettings(ctx)
	if err != nil {
		return nil, err
	}
	for model := range settings {
		names = append(names, string(model))
	}
	names = append(names, s.cfg.Models...)
	slices.Sort(names)
	return slices.Compact(names), nil
}

// modelListParams are empty: clients of other servers may add parameters, and
// there is nothing that those could change.
type modelListParams struct{}

func (*modelListParams) read(*input) {}

func (s *Server) listModels(ctx context.Context, who caller, _ modelListParams) (page[modelObject], error) {
	names, err := s.ModelNames(ctx, who.owner)
	return wholePage(names, asModel), err
}

// modelParams name a model.
type modelParams struct{ name string }

func (p *modelParams) read(in *input) {
	p.name = in.pathID("model")
	if p.name == "" || len(p.name) > maxModelBytes || !isText(p.name) {
		in.missing()
	}
}

func (s *Server) getModel(ctx context.Context, who caller, p modelParams) (modelObject, error) {
	names, err := s.ModelNames(ctx, who.owner)
	if err == nil && !slices.Contains(names, p.name) {
		err = batch.ErrNotFound
	}
	return asModel(p.name), err
}
