// Package app puts the parts together: settings become connections, daemons
// and the API. It holds the wiring that the programs of a cluster share with
// fusillade run and serve, and no logic of its own.
//
//	role.go                       a program of a cluster: environment → Role → exit code
//	resources.go, local.go        connections to a cluster, or servers of our own
//	dispatcher.go, consumer.go,   what each role is made of, from its settings
//	standalone.go, api.go
//	resolver.go, telemetry.go     where calls go; what the admin server shows
package app
