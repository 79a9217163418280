package config

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseWindow(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text string
		want time.Duration // zero: refused
	}{
		{"24h", 24 * time.Hour},
		{"1h30m", 90 * time.Minute},
		{"7d", 7 * 24 * time.Hour},
		{"1d12h", 36 * time.Hour},
		{"0d5s", 5 * time.Second},
		{"900s", 15 * time.Minute},
		{"106751d", 106751 * 24 * time.Hour},
		{"", 0}, {"d", 0}, {"0s", 0}, {"0d", 0}, {"5", 0}, {"-5s", 0}, {"+5s", 0}, {"1d-5s", 0},
		{"-1d", 0}, {"1.5d", 0}, {"1h1d", 0}, {"1d1d", 0}, {"1w", 0}, {" 1h", 0}, {"106752d", 0},
		{"106751d24h", 0}, {"99999999999d", 0},
	}
	for _, tt := range tests {
		got, err := ParseWindow(tt.text)
		if got != tt.want || (err == nil) != (tt.want > 0) {
			t.Errorf("ParseWindow(%q) = %v, %v, want %v", tt.text, got, err, tt.want)
		}
	}
}

func TestParseWindowReadsGoDurations(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := time.Duration(rapid.Int64Min(1).Draw(t, "nanoseconds"))
		if got, err := ParseWindow(want.String()); got != want || err != nil {
			t.Fatalf("ParseWindow(%q) = %v, %v", want, got, err)
		}
	})
}

func FuzzParseWindow(f *testing.F) {
	f.Add("1d12h")
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := ParseWindow(text); err == nil && got <= 0 {
			t.Errorf("ParseWindow(%q) = %v", text, got)
		}
	})
}

func TestMetadataFields(t *testing.T) {
	t.Parallel()
	tests := []struct{ text, want, err string }{
		{"", "", ""},
		{" ", "", ""},
		{"id, created_by,team-name", "id,created_by,team-name", ""},
		{"id,", "", "has an empty element, number 2"},
		{"id,a:b", "", `has the element "a:b"`},
		{"a_b,A-B", "", `has the elements "a_b" and "A-B", which make the same header`},
	}
	for _, tt := range tests {
		var got MetadataFields
		assertSet(t, &got, tt.text, tt.err)
		if tt.err == "" && got.String() != tt.want {
			t.Errorf("Set(%q) = %q, want %q", tt.text, got, tt.want)
		}
	}
}
