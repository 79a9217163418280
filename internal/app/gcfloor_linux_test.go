package app

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// What Go had to clear is not resident either, and reads as zeros.
func TestFloorTakesNoMemory(t *testing.T) {
	used := make([]byte, gcFloor)
	for i := range used {
		used[i] = 1
	}
	before := resident(t)
	releasePages(used)
	if given := before - resident(t); given < gcFloor*3/4 {
		t.Errorf("of %d bytes that were written and released %d are free", gcFloor, given)
	}
	if used[gcFloor/2] != 0 {
		t.Error("what was released is not zero")
	}
}

// resident is the memory of this process. Format: proc(5).
func resident(t *testing.T) int {
	t.Helper()
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(statm))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}
