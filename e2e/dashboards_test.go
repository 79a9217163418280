package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// dashboardQueries are the statements of the dashboards in deploy/grafana, by the
// titles of their panels, for the last hour.
func (s *secured) dashboardQueries() map[string]string {
	s.t.Helper()
	paths, err := filepath.Glob("../deploy/grafana/*.json")
	if err != nil {
		s.t.Fatal(err)
	}
	queries := make(map[string]string)
	for _, path := range paths {
		var dashboard struct {
			Panels []struct {
				Title   string
				Targets []struct {
					RawSQL string `json:"rawSql"`
				}
			}
		}
		if err := json.Unmarshal([]byte(read(s.t, path)), &dashboard); err != nil {
			s.t.Fatal(err)
		}
		now := time.Now().UTC()
		for _, p := range dashboard.Panels {
			for _, target := range p.Targets {
				if target.RawSQL != "" {
					// As Grafana writes them.
					queries[p.Title] = strings.NewReplacer(
						"$__timeFrom()", "'"+now.Add(-time.Hour).Format(time.RFC3339Nano)+"'",
						"$__timeTo()", "'"+now.Add(time.Hour).Format(time.RFC3339Nano)+"'",
					).Replace(target.RawSQL)
				}
			}
		}
	}
	return queries
}

// wantDashboards runs them as the role monitor. Each finds what the owner has,
// but for what is in progress: that may have ended.
func (s *secured) wantDashboards(owner string) {
	s.t.Helper()
	queries := s.dashboardQueries()
	if len(queries) != 4 {
		s.t.Errorf("%d panels ask Postgres, want 4", len(queries))
	}
	conn, err := pgx.Connect(s.t.Context(), s.databaseURL("monitor"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(s.t.Context())
	for title, query := range queries {
		rows, err := conn.Query(s.t.Context(), query)
		if err != nil {
			s.t.Errorf("%s: %v", title, err)
			continue
		}
		found := false
		for rows.Next() {
			values, err := rows.Values()
			if err != nil {
				s.t.Fatal(err)
			}
			found = found || strings.Contains(fmt.Sprint(values...), owner)
		}
		if err := rows.Err(); err != nil {
			s.t.Errorf("%s: %v", title, err)
		} else if inProgress := title == "Owners" || title == "In progress"; !found && !inProgress {
			s.t.Errorf("%s: nothing of %s was found", title, owner)
		}
	}
}
