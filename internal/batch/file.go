package batch

// FileSummary describes an input file that was read to its end.
type FileSummary struct {
	Bytes    int64         // of the file
	Requests int           // in the file
	Endpoint string        // the url of every line; empty: they differ
	Models   []ModelDemand // by name
	SHA256   [32]byte      // of the file, byte for byte
	Survey   *Survey       // nil: its requests were not surveyed
	// ModelLimits bound what its models may come to with those of other files.
	ModelLimits ModelLimits
}

// ModelDemand counts a file's requests to one model.
type ModelDemand struct {
	Model    Model
	Requests int
	Bytes    int64 // of the requests' bodies
}
