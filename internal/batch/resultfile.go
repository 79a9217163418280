package batch

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// ResultFile names one of the two files that a batch's results are read as.
// Nothing is stored under it: it is made of the batch's id and says which.
type ResultFile struct {
	Batch  ID
	Errors bool // the requests that did not complete, instead of those that did
}

const (
	outputFilePrefix = filePrefix + "output-"
	errorFilePrefix  = filePrefix + "error-"
)

// String returns the id with the prefix that OpenAI's SDKs expect.
func (f ResultFile) String() string {
	if f.Errors {
		return errorFilePrefix + f.Batch.Token()
	}
	return outputFilePrefix + f.Batch.Token()
}

// The purposes of files.
const (
	PurposeBatch       = "batch"        // input
	PurposeBatchOutput = "batch_output" // output and errors
)

// ParseResultFile reads what ResultFile.String wrote.
func ParseResultFile(s string) (ResultFile, error) {
	var f ResultFile
	digits, found := strings.CutPrefix(s, outputFilePrefix)
	if !found {
		digits, found = strings.CutPrefix(s, errorFilePrefix)
		f.Errors = true
	}
	raw, err := parseHex(digits, 16)
	if err != nil || !found || hex.EncodeToString(raw) != digits {
		return ResultFile{}, fmt.Errorf("file id %q: %w", s, ErrInvalidID)
	}
	f.Batch = ID(raw)
	return f, nil
}
