package config

// Source says where the value of a setting comes from.
type Source struct {
	Variable string `json:"variable"`
	Value    string `json:"value"`          // secrets hidden
	From     string `json:"from,omitempty"` // the variable that was read; empty: the default
}

// Sources lists the settings of a role that was loaded, in the order of the
// documentation.
func Sources(dst Settings) []Source {
	settings := settingsOf(dst)
	list := make([]Source, 0, len(settings))
	for _, s := range settings {
		_, from, err := s.lookup()
		if err != nil { // Load has refused it
			from = ""
		}
		list = append(list, Source{Variable: prefixed(s.name), Value: s.text(), From: from})
	}
	return list
}
