package batch

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// ID names a batch. It is a UUIDv7 (RFC 9562), so that ids sort by creation
// time. The zero value names no batch.
type ID [16]byte

// FileID names an input file. It is a UUIDv7; the zero value names no file.
type FileID [16]byte

// DaemonID names one run of one process: a restarted pod has a new one. It is
// a UUIDv7; the zero value names no daemon.
type DaemonID [16]byte

// Model is a model's name exactly as the request spells it. It may hold any
// character but NUL.
type Model string

// RequestID names a request: a line of the file that a batch was made from.
// Nothing needs to be looked up to decode its string form.
type RequestID struct {
	Batch ID
	Line  int32 // 1-based line number in the input file
}

const (
	batchPrefix   = "batch_"
	filePrefix    = "file-"
	requestPrefix = "batch_req_"
)

// String returns the id with the prefix that OpenAI's SDKs expect.
func (id ID) String() string { return batchPrefix + id.Token() }

// Token returns the id as 32 hexadecimal digits, the form used in subjects.
func (id ID) Token() string { return hex.EncodeToString(id[:]) }

// String returns the id with the prefix that OpenAI's SDKs expect.
func (id FileID) String() string { return filePrefix + hex.EncodeToString(id[:]) }

// String returns the id as 32 hexadecimal digits.
func (id DaemonID) String() string { return hex.EncodeToString(id[:]) }

// String returns the opaque form shown to users.
func (id RequestID) String() string {
	var raw [20]byte
	copy(raw[:16], id.Batch[:])
	binary.BigEndian.PutUint32(raw[16:], uint32(id.Line))
	var text [len(requestPrefix) + 2*len(raw)]byte
	hex.Encode(text[copy(text[:], requestPrefix):], raw[:])
	return string(text[:])
}

// MarshalText makes ids readable in logs and JSON.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// MarshalText makes ids readable in logs and JSON.
func (id FileID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// MarshalText makes ids readable in logs and JSON.
func (id DaemonID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// MarshalText makes ids readable in logs and JSON.
func (id RequestID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// ParseID reads what ID.String or ID.Token wrote.
func ParseID(s string) (ID, error) {
	raw, err := parseHex(strings.TrimPrefix(s, batchPrefix), 16)
	if err != nil {
		return ID{}, fmt.Errorf("%w: %q; the id of a batch is batch_ and 32 hexadecimal digits", ErrInvalidID, s)
	}
	return ID(raw), nil
}

// ParseFileID reads what FileID.String wrote.
func ParseFileID(s string) (FileID, error) {
	hexDigits, found := strings.CutPrefix(s, filePrefix)
	raw, err := parseHex(hexDigits, 16)
	if err != nil || !found {
		return FileID{}, fmt.Errorf("%w: %q; the id of a file is file- and 32 hexadecimal digits", ErrInvalidID, s)
	}
	return FileID(raw), nil
}

// ParseDaemonID reads what DaemonID.String wrote.
func ParseDaemonID(s string) (DaemonID, error) {
	raw, err := parseHex(s, 16)
	if err != nil {
		return DaemonID{}, fmt.Errorf("daemon id %q: %w", s, ErrInvalidID)
	}
	return DaemonID(raw), nil
}

// ParseRequestID reads what RequestID.String wrote.
func ParseRequestID(s string) (RequestID, error) {
	hexDigits, found := strings.CutPrefix(s, requestPrefix)
	raw, err := parseHex(hexDigits, 20)
	if err != nil || !found {
		return RequestID{}, fmt.Errorf("request id %q: %w", s, ErrInvalidID)
	}
	line := binary.BigEndian.Uint32(raw[16:])
	if line == 0 || line > 1<<31-1 {
		return RequestID{}, fmt.Errorf("request id %q: %w", s, ErrInvalidID)
	}
	return RequestID{Batch: ID(raw[:16]), Line: int32(line)}, nil
}

func parseHex(s string, size int) ([]byte, error) {
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != size {
		return nil, ErrInvalidID
	}
	return raw, nil
}
