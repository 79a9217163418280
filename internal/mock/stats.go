package mock

// Stats are counts since the start or the last reset. While no call is in
// flight they are exact, and then for each model
// Calls = InFlight + Aborted + the sum of ByStatus.
type Stats struct {
	Counts
	Models map[string]ModelStats `json:"models"`
	// CustomIDs counts calls by custom id; only if asked for.
	CustomIDs map[string]int64 `json:"custom_ids,omitempty"`
	// CustomIDsUnrecorded counts calls whose custom id was new when the record
	// was full.
	CustomIDsUnrecorded int64 `json:"custom_ids_unrecorded"`
}

// Counts are of one model, or of all.
type Counts struct {
	Calls    int64 `json:"calls"` // begun, whatever came of them
	InFlight int64 `json:"in_flight"`
	// Aborted calls are those whose client went away before the answer.
	Aborted int64 `json:"aborted"`
	// CeilingViolations are calls beyond the ceiling. Those that were refused while a
	// client had gone, and was not seen to be yet, are not among them.
	CeilingViolations int64         `json:"ceiling_violations"`
	ByStatus          map[int]int64 `json:"by_status"`
}

// ModelStats are the counts of one model.
type ModelStats struct {
	Counts
	// PeakInFlight includes calls that were refused for the ceiling, so it
	// shows by how much the ceiling was exceeded.
	PeakInFlight int64 `json:"peak_in_flight"`
}

func (c *Counts) add(other Counts) {
	c.Calls += other.Calls
	c.InFlight += other.InFlight
	c.Aborted += other.Aborted
	c.CeilingViolations += other.CeilingViolations
	for status, n := range other.ByStatus {
		c.ByStatus[status] += n
	}
}

// Stats returns the counts, without those by custom id.
func (s *Server) Stats() Stats {
	stats := Stats{
		Counts:              Counts{ByStatus: make(map[int]int64)},
		Models:              make(map[string]ModelStats),
		CustomIDsUnrecorded: s.customIDs.unrecorded.Load(),
	}
	for name, m := range *s.models.byName.Load() {
		if counts := m.stats(); counts.Calls > 0 {
			stats.Models[name] = counts
			stats.add(counts.Counts)
		}
	}
	return stats
}

// CustomIDs returns the calls by custom id.
func (s *Server) CustomIDs() map[string]int64 { return s.customIDs.snapshot() }

// ResetStats sets every count to zero, but for calls in flight, which count as
// begun from now on. Since the count of calls per custom id starts again, so
// does the sequence of errors and latencies.
func (s *Server) ResetStats() {
	for _, m := range *s.models.byName.Load() {
		m.reset()
	}
	s.customIDs.reset()
}
