//go:build race

package rate

// thorough: under the race detector, which is slow, fewer cases are played.
const thorough = false
