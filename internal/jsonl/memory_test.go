package jsonl

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"fusillade/internal/batch"
)

// These tests measure the heap of the process, so they don't run in parallel.

// allocated returns the bytes that f allocates, freed ones included.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// endless repeats a text.
type endless string

func (e endless) Read(p []byte) (int, error) { return copy(p, e), nil }

func TestLongLineTakesConstantMemory(t *testing.T) {
	const lineBytes, most = 256 << 20, 32 << 20
	source := io.MultiReader(
		strings.NewReader(request("a")+"\n"),
		io.LimitReader(endless(strings.Repeat("[", chunkBytes)), lineBytes),
		strings.NewReader("\n{}\n"),
	)
	var err error
	if got := allocated(func() { _, _, err = readAll(t, source, Config{}) }); got > most {
		t.Errorf("%d bytes were allocated, more than %d", got, most)
	}
	var invalid *InvalidFileError
	if !errors.As(err, &invalid) || invalid.Total != 2 || invalid.Lines[0].Code != CodeRequestTooLarge || invalid.Lines[0].Line != 2 || invalid.Lines[1].Line != 3 {
		t.Errorf("got %v", err)
	}
}

func TestCustomIDsTakeFewBytes(t *testing.T) {
	const ids, most = 250_000, 40
	seen := newCustomIDs()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var id []byte
	for i := range ids {
		id = fmt.Appendf(id[:0], "request-%d", i)
		if seen.add(id, i+1) != 0 {
			t.Fatalf("%s is taken for another", id)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if got := float64(after.HeapAlloc-before.HeapAlloc) / ids; got > most {
		t.Errorf("%.1f bytes an id, more than %d", got, most)
	}
	if first := seen.add([]byte("request-41"), ids+1); first != 42 {
		t.Errorf("request-41 was first seen on line %d", first)
	}
}

func BenchmarkReader(b *testing.B) {
	english := strings.Repeat(`The quick brown fox jumps over the lazy watch, and says \"hello\".\n`, 12)
	for name, content := range map[string]string{
		"200 B":        "Why is the sky blue?",
		"1 KB":         english,
		"1 KB Chinese": strings.Repeat("为什么天空是蓝色的？", 26),
		"16 KB":        strings.Repeat(english, 20),
	} {
		b.Run(name, func(b *testing.B) {
			line := `{"custom_id":"request-%07d","method":"POST","url":"/v1/chat/completions","body":{"model":"meta-llama/Llama-3.1-8B","messages":[{"role":"user","content":"` + content + "\"}],\"max_tokens\":1000}}\n"
			var file strings.Builder
			for i := range (8 << 20) / len(line) {
				fmt.Fprintf(&file, line, i)
			}
			b.SetBytes(int64(file.Len()))
			b.ReportAllocs()
			for b.Loop() {
				drain(b, file.String())
			}
		})
	}
}

func drain(b *testing.B, file string) {
	reader, err := NewReader(strings.NewReader(file), Config{})
	if err != nil {
		b.Fatal(err)
	}
	var last batch.Template
	for err == nil {
		last, err = reader.Next()
	}
	if err != io.EOF || last.Line != 0 {
		b.Fatal(err)
	}
}
