package api

// The bounds of what a client may send, in bytes where they do not say
// otherwise. The OpenAPI document names them, and a test holds the two together.
const (
	maxIDBytes          = 64 // of the ids of everything but models
	maxNameBytes        = 64 // of purposes, statuses and orders
	maxWindowBytes      = 64
	maxEndpointBytes    = 128
	maxCustomIDBytes    = 512
	maxModelBytes       = 512
	maxFilenameBytes    = 255
	maxMIMETypeBytes    = 255
	maxIdempotencyKey   = 255
	maxUpstreamKeyBytes = 4096
	maxMetadata         = 16  // pairs
	maxMetadataKey      = 64  // characters
	maxMetadataValue    = 512 // characters
	maxParts            = 10_000
	maxStatuses         = 3
)
