package jsonl

import (
	"crypto/rand"
	"crypto/sha256"
)

// customIDs finds the custom_ids that occur twice in a file. It keeps 96 bits
// of a keyed SHA-256 of each instead of its text. Among a million ids, two
// different ones are taken for the same with a probability below 10^-17, and
// without the key, which lives as long as the Reader, nobody can choose ids
// that collide.
type customIDs struct {
	lines   map[[12]byte]int32
	message []byte // the key, then room for an id
}

const customIDKeyBytes = 16

func newCustomIDs() *customIDs {
	message := make([]byte, customIDKeyBytes, customIDKeyBytes+maxCustomIDBytes)
	rand.Read(message) // never fails: crypto/rand ends the process instead
	return &customIDs{lines: make(map[[12]byte]int32), message: message}
}

// add records that a line has the id, and returns the line that had it before,
// or 0.
func (c *customIDs) add(id []byte, line int) int {
	digest := sha256.Sum256(append(c.message[:customIDKeyBytes], id...))
	hash := [12]byte(digest[:])
	if first, found := c.lines[hash]; found {
		return int(first)
	}
	c.lines[hash] = int32(line)
	return 0
}
