package cli

import "fmt"

// Number is a number in at most five characters: thousands are k, and so on, where
// it has five digits or more.
func Number(n int64) string {
	if n < 10_000 {
		return fmt.Sprint(n)
	}
	size, unit := scaled(n)
	return short(size, 99.95) + unit
}

// Size is a number of bytes with a unit, in three digits.
func Size(bytes int64) string {
	if bytes < 1000 {
		return fmt.Sprintf("%dB", bytes)
	}
	size, unit := scaled(bytes)
	return short(size, 9.95) + unit + "B"
}

// scaled is a number of thousands, millions and so on, below 1000 as it is rounded.
func scaled(n int64) (size float64, unit string) {
	const units = "kMGTPE"
	size, i := float64(n)/1000, 0
	for size >= 999.5 && i < len(units)-1 {
		size, i = size/1000, i+1
	}
	return size, units[i : i+1]
}

// short has a decimal below a bound.
func short(size, bound float64) string {
	if size < bound {
		return fmt.Sprintf("%.1f", size)
	}
	return fmt.Sprintf("%.0f", size)
}

// Count is a number with its noun, in the plural unless it is one.
func Count(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
