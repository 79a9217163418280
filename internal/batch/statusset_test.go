package batch

import (
	"strings"
	"testing"
)

func TestStatusSet(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		list    string
		members []int
		others  []int
	}{
		{DefaultRetryStatuses, []int{500, 599, 429, 408, 404}, []int{-1, 0, 200, 400, 499, 600, 10000}},
		{" 500 - 502 , 4XX", []int{500, 502, 400, 499}, []int{503, 399}},
		{"none", nil, []int{0, 200, 429, 500}},
	} {
		var set StatusSet
		if err := set.Set(test.list); err != nil {
			t.Errorf("%q: %v", test.list, err)
			continue
		}
		for _, status := range test.members {
			if !set.Contains(status) {
				t.Errorf("%q lacks %d", test.list, status)
			}
		}
		for _, status := range test.others {
			if set.Contains(status) {
				t.Errorf("%q holds %d", test.list, status)
			}
		}
	}
	for list, named := range map[string]string{
		"":            `""`,
		"5xx,,429":    `""`,
		"5xx,teapot":  `"teapot"`,
		"6xx":         `"6xx"`,
		"xx":          `"xx"`,
		"55xx":        `"55xx"`,
		"99":          `"99"`,
		"600":         `"600"`,
		"+429":        `"+429"`,
		"429,502-500": `"502-500"`,
		"500-":        `"500-"`,
		"500-501-502": `"500-501-502"`,
		"5xx,none":    `"none"`,
	} {
		if err := new(StatusSet).Set(list); err == nil || !strings.Contains(err.Error(), named) {
			t.Errorf("%q: error does not name %s: %v", list, named, err)
		}
	}
}
