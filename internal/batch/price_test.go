package batch

import "testing"

func TestMoney(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Money{"0": 0, "2.5": 2_500_000, "0.000001": 1, "1000000": 1_000_000_000_000, "007.10": 7_100_000} {
		if got, err := ParseMoney(text); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
	for _, bad := range []string{"", ".", "1.", ".5", "-1", "+1", "1e3", "0.0000001", "1000001", "99999999999999999999", "1,5", " 1", "0x1"} {
		if got, err := ParseMoney(bad); err == nil {
			t.Errorf("%q is taken for %d", bad, got)
		}
	}
	for m, want := range map[Money]string{0: "0.00", 1: "0.000001", 10_000: "0.01", 2_500_000: "2.50", -1_230_000: "-1.23", 1_234_567: "1.234567"} {
		if got := m.String(); got != want {
			t.Errorf("%d is %q, want %q", m, got, want)
		}
	}
}

func TestCost(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		prompt, completion int64
		want               Money
	}{
		{0, 0, 0}, {1, 0, 3}, {1_000_000, 0, 2_500_000}, {0, 1_000_000, 10_000_000}, {1_000_000_000_000, 1_000_000_000_000, 12_500_000_000_000},
	} {
		if got := (Price{2_500_000, 10_000_000}).Cost(tt.prompt, tt.completion); got != tt.want {
			t.Errorf("%d and %d tokens cost %d, want %d", tt.prompt, tt.completion, got, tt.want)
		}
	}
}
