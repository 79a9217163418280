//go:build race

package adaptive_test

// thorough: under the race detector, which is slow, fewer cases are played.
const thorough = false
