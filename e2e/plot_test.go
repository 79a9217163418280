package e2e

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// drawAdaptive draws a run as SVG: limit and calls in flight above, answers and
// refusals per second below.
func drawAdaptive(title string, seen []moment, marks map[float64]string, end float64) string {
	const width, left, right = 860, 50, 20
	x := func(seconds float64) float64 { return left + seconds/end*(width-left-right) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d 470" font-family="sans-serif" font-size="12">`+"\n", width)
	fmt.Fprintf(&b, `<rect width="%d" height="470" fill="#fff"/><text x="%d" y="20" font-size="14">%s</text>`+"\n", width, left, title)
	panel := func(top, height, most, step float64, what string) func(float64) float64 {
		y := func(v float64) float64 { return top + height - min(v/most, 1)*height }
		for v := 0.0; v <= most; v += step {
			fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#e4e4e4"/><text x="%d" y="%.1f" text-anchor="end" fill="#555">%.0f</text>`+"\n", left, y(v), width-right, left-6, y(v)+4, v)
		}
		fmt.Fprintf(&b, `<text x="%d" y="%.1f" fill="#555">%s</text>`+"\n", left+4, top-6, what)
		return y
	}
	above := panel(60, 210, 96, 16, `<tspan fill="#1f5fb4">limit</tspan> and <tspan fill="#d9822b">calls in flight</tspan>`)
	below := panel(320, 100, 80, 20, `<tspan fill="#2a8a4a">answers</tspan> and <tspan fill="#c0392b">refusals</tspan> per second`)
	for _, at := range slices.Sorted(maps.Keys(marks)) {
		fmt.Fprintf(&b, `<path d="M%.1f 44V420" stroke="#999" stroke-dasharray="4 3"/><text x="%.1f" y="54" fill="#555">%s</text>`+"\n", x(at), x(at)+4, marks[at])
	}
	for s := 0.0; s <= end; s += 30 {
		fmt.Fprintf(&b, `<text x="%.1f" y="440" text-anchor="middle" fill="#555">%.0f s</text>`+"\n", x(s), s)
	}
	line := func(color string, value func(i int) (float64, bool), y func(float64) float64) {
		var points []string
		for i := range seen {
			if v, ok := value(i); ok {
				points = append(points, fmt.Sprintf("%.1f,%.1f", x(seen[i].seconds), y(v)))
			}
		}
		fmt.Fprintf(&b, `<polyline fill="none" stroke="%s" stroke-width="1.5" points="%s"/>`+"\n", color, strings.Join(points, " "))
	}
	const every, over = 10, 20 // moments: a rate each second, of two
	perSecond := func(count func(moment) int64) func(int) (float64, bool) {
		return func(i int) (float64, bool) {
			if i%every != 0 || i < over {
				return 0, false
			}
			return float64(count(seen[i])-count(seen[i-over])) / (seen[i].seconds - seen[i-over].seconds), true
		}
	}
	line("#d9822b", func(i int) (float64, bool) { return float64(seen[i].inFlight), i%5 == 0 }, above)
	line("#1f5fb4", func(i int) (float64, bool) { return float64(seen[i].limit), i == 0 || i%5 == 0 }, above)
	line("#2a8a4a", perSecond(func(m moment) int64 { return m.answered }), below)
	line("#c0392b", perSecond(func(m moment) int64 { return m.refuse }), below)
	b.WriteString("</svg>\n")
	return b.String()
}
