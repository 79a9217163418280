//go:build !race

package rate

const thorough = true
