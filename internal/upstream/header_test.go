package upstream

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestSanitizeHeaderValue(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ value, want string }{
		{"", ""},
		{"plain value", "plain value"},
		{" padded\t", "padded"},
		{"line\r\nX-Evil: 1", "line  X-Evil: 1"},
		{"nul\x00del\x7f.", "nul del ."},
		{"naïve 漢字", "naïve 漢字"},
		{"\xff\xfe", "\uFFFD"},
		{"\n\n", ""},
		{strings.Repeat("é", MaxHeaderValueBytes), strings.Repeat("é", MaxHeaderValueBytes/2)},
		{"a" + strings.Repeat("é", MaxHeaderValueBytes), "a" + strings.Repeat("é", MaxHeaderValueBytes/2-1)},
	} {
		if got := SanitizeHeaderValue(test.value); got != test.want {
			t.Errorf("SanitizeHeaderValue(%.20q) = %.20q (%d bytes), want %.20q", test.value, got, len(got), test.want)
		}
	}
}

func TestSanitizedIsLegal(t *testing.T) {
	t.Parallel()
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, errDialed }}
	anyBytes := rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.OneOf(rapid.String(), anyBytes).Draw(t, "value")
		got := SanitizeHeaderValue(value)
		if again := SanitizeHeaderValue(got); again != got {
			t.Fatalf("sanitizing %q again gives %q", got, again)
		}
		if !utf8.ValidString(got) || len(got) > MaxHeaderValueBytes || ValidHeaderValue(got) != nil {
			t.Fatalf("%q", got)
		}
		request, err := http.NewRequestWithContext(t.Context(), "GET", "http://h", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header["X-Value"] = []string{got}
		response, err := transport.RoundTrip(request)
		if response != nil {
			_ = response.Body.Close()
		}
		if !errors.Is(err, errDialed) {
			t.Fatalf("net/http refuses %q: %v", got, err)
		}
	})
}
