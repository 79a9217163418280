package embedded

import (
	"maps"
	"slices"
	"strconv"
)

// socketPort is only part of the socket's name.
const (
	socketPort = 5432
	socketName = ".s.PGSQL.5432"
)

// settings suit one machine that reads and writes the same small tables all the
// time beside large appends. Nothing here gives up durability.
var settings = map[string]string{
	"listen_addresses":             "",
	"unix_socket_permissions":      "0700",
	"max_connections":              "200",
	"shared_buffers":               "256MB",
	"work_mem":                     "16MB",
	"maintenance_work_mem":         "128MB",
	"wal_compression":              "on",
	"max_wal_size":                 "4GB",
	"min_wal_size":                 "256MB",
	"checkpoint_timeout":           "15min",
	"checkpoint_completion_target": "0.9",
	"random_page_cost":             "1.1",
	"jit":                          "off",
	// The table of live requests is small and rewritten many times a minute.
	"autovacuum_naptime": "15s",
	"timezone":           "UTC",
	"log_timezone":       "UTC",
	"logging_collector":  "off",
	"log_destination":    "stderr",
	"log_line_prefix":    "",
	// Errors of statements go to the client, which asked; here they could
	// carry a prompt. "log" leaves the server's own messages.
	"log_min_messages":        "log",
	"log_min_error_statement": "panic",
	"log_error_verbosity":     "terse",
	"cluster_name":            "fusillade",
}

// serverArgs is the command line of a server on dataDir. The settings are
// passed here and not in a file below dataDir: that belongs to the server's
// user, and root must not write where others may place a link.
func serverArgs(dataDir, socketDir string, extra map[string]string) []string {
	all := maps.Clone(settings)
	maps.Copy(all, extra)
	all["unix_socket_directories"] = socketDir
	all["port"] = strconv.Itoa(socketPort)
	args := []string{"-D", dataDir}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		args = append(args, "-c", name+"="+all[name])
	}
	return args
}
