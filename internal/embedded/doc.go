// Package embedded is what a single machine needs in place of a cluster's
// services: a Postgres server, a NATS server, and a lock that keeps two
// processes off one data directory.
//
//	DATA/postgres/           PostgresConfig.DataDir
//	    fusillade.lock       held while this process runs the server
//	    data/                the cluster, owned by the user the server runs as
//	    data.new-*/          an initdb that is not done; removed at the next start
//	    socket/              the only way in: no TCP port is opened
//	DATA/nats/               NATSConfig.DataDir
//	    fusillade.lock
//	    jetstream/
//
// The Postgres server is a child process. It shuts down with its owner: on
// Linux the kernel tells it when the owner is killed; elsewhere the next start
// stops what an earlier one left running. Postgres refuses to run as root, so
// where we are root it runs as the user postgres, or else nobody.
//
// The NATS server is part of this process.
package embedded
