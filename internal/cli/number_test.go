package cli

import "testing"

func TestSize(t *testing.T) {
	for bytes, want := range map[int64]string{
		0: "0B", 999: "999B", 1000: "1.0kB", 9_949: "9.9kB", 9_950: "10kB", 999_499: "999kB", 999_500: "1.0MB",
		433_000_000: "433MB", 1 << 62: "4.6EB",
	} {
		if got := Size(bytes); got != want {
			t.Errorf("%d: %q, want %q", bytes, got, want)
		}
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 9999: "9999", 10_000: "10.0k", 99_949: "99.9k", 123_456: "123k", 999_499: "999k", 999_500: "1.0M", 1 << 60: "1.2E"} {
		if got := Number(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
