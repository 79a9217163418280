package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"fusillade/internal/postgres"
)

type daemonsCmd struct {
	Ls daemonsLsCmd `cmd:"" help:"List the daemons with what they say of themselves."`
}

type daemonsLsCmd struct {
	All  bool `help:"Also those that have ended, for a day."`
	JSON bool `name:"json" help:"Print JSON."`
}

// Run lists the daemons.
func (c *daemonsLsCmd) Run(ctx context.Context, t *terminal) error {
	r, err := connectCluster(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	records, err := r.Store.Daemons(ctx)
	if err != nil {
		return err
	}
	listed := make([]daemonLine, 0, len(records))
	for _, d := range records {
		if c.All || d.Status != "dead" {
			listed = append(listed, newDaemonLine(d))
		}
	}
	if c.JSON {
		return t.printJSON(listed)
	}
	return printDaemons(t.out, listed)
}

// daemonLine is a daemon as it is printed.
type daemonLine struct {
	ID             string `json:"id"`
	Role           string `json:"role"`
	Host           string `json:"host"`
	PID            int    `json:"pid"`
	Version        string `json:"version"`
	Status         string `json:"status"`
	StartedAt      string `json:"started_at"`
	HeartbeatAgeMS int64  `json:"heartbeat_age_ms"`
	InFlight       int    `json:"in_flight"`
	Processed      int64  `json:"processed"` // completed or failed
	Failed         int64  `json:"failed"`
}

func newDaemonLine(d postgres.DaemonRecord) daemonLine {
	return daemonLine{
		ID: d.ID.String(), Role: d.Role, Host: d.Host, PID: d.PID, Version: d.Version, Status: d.Status,
		StartedAt: d.StartedAt.UTC().Format(time.RFC3339), HeartbeatAgeMS: max(d.HeartbeatAge.Milliseconds(), 0),
		InFlight: d.InFlight, Processed: d.Completed + d.Failed, Failed: d.Failed,
	}
}

func printDaemons(out io.Writer, listed []daemonLine) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tROLE\tHOST\tPID\tSTATUS\tHEARTBEAT\tIN FLIGHT\tPROCESSED\tFAILED")
	for _, d := range listed {
		age := time.Duration(d.HeartbeatAgeMS) * time.Millisecond
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%d\t%d\t%d\n",
			d.ID, d.Role, d.Host, d.PID, d.Status, age.Round(100*time.Millisecond), d.InFlight, d.Processed, d.Failed)
	}
	return w.Flush()
}
