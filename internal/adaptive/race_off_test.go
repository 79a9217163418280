//go:build !race

package adaptive_test

const thorough = true
