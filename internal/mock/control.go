package mock

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
)

const maxConfigBytes = 1 << 20

type modelList struct {
	Object string      `json:"object"`
	Data   []modelItem `json:"data"`
}

type modelItem struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
}

// serveModels lists the models that have a ceiling or have been called.
func (s *Server) serveModels(w http.ResponseWriter, _ *http.Request) {
	names := make(map[string]bool)
	for name := range s.settings.Load().ceilings.byModel {
		names[name] = true
	}
	for name := range *s.models.byName.Load() {
		names[name] = name != unparsedModel && name != otherModels
	}
	list := modelList{Object: "list", Data: []modelItem{}}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if names[name] {
			list.Data = append(list.Data, modelItem{ID: name, Object: "model", Created: created, OwnedBy: "fusillade"})
		}
	}
	writeJSON(w, http.StatusOK, list)
}

func (s *Server) serveStats(w http.ResponseWriter, r *http.Request) {
	stats := s.Stats()
	if r.URL.Query().Get("custom_ids") == "1" {
		stats.CustomIDs = s.CustomIDs()
	}
	writeJSON(w, http.StatusOK, stats)
}

func (s *Server) serveReset(w http.ResponseWriter, _ *http.Request) {
	s.ResetStats()
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) serveConfig(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.Settings())
}

func (s *Server) serveConfigure(w http.ResponseWriter, r *http.Request) {
	patch, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxConfigBytes))
	if err == nil {
		err = s.patch(patch)
	}
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	writeJSON(w, http.StatusOK, s.Settings())
}

// patch changes the settings that a JSON object names.
func (s *Server) patch(object []byte) error {
	s.patching.Lock()
	defer s.patching.Unlock()
	settings, err := patched(s.Settings(), object)
	if err != nil {
		return err
	}
	return s.Configure(settings)
}

// patched returns settings with those that a JSON object names in their place.
func patched(settings Settings, object []byte) (Settings, error) {
	decoder := json.NewDecoder(bytes.NewReader(object))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&settings); err != nil {
		return Settings{}, fmt.Errorf("settings: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return Settings{}, errors.New("settings: more than one JSON value")
	}
	_, err := settings.parse()
	return settings, err
}
