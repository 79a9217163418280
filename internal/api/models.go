package api

import (
	"slices"
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

// modelNames are those that are configured, and those that the caller's own
// files ask for. Others' stay unknown.
func (s *Server) modelNames(c *call) ([]string, error) {
	names, err := s.cfg.Store.OwnerModels(c.Context(), c.owner)
	if err != nil {
		return nil, err
	}
	settings, err := s.cfg.Store.ModelSettings(c.Context())
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

func (s *Server) listModels(c *call) (any, error) {
	names, err := s.modelNames(c)
	if err != nil {
		return nil, err
	}
	models := make([]modelObject, len(names))
	for i, name := range names {
		models[i] = asModel(name)
	}
	return page(models, len(models), func(m modelObject) string { return m.ID }), nil
}

func (s *Server) getModel(c *call) (any, error) {
	names, err := s.modelNames(c)
	if err != nil {
		return nil, err
	}
	name := c.PathValue("id")
	if !slices.Contains(names, name) {
		return nil, notFound("model", name)
	}
	return asModel(name), nil
}
