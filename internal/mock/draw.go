package mock

// draw is the source of all that is random about one call. Equal inputs give
// equal draws, in every process.
type draw struct {
	identity uint64 // of the seed and the custom id
	call     uint64 // of identity and the call's number
}

// The purposes that a draw is used for; each sees numbers of its own.
const (
	forFinalError = iota + 1
	forError
	forLatency
	forLatency2
	forText
	forID
	forVector
	forValue
	forBehavior
)

// newDraw hashes id, the call's custom id or its body if it has none. The
// draw is that of the first call.
func newDraw[T string | []byte](seed uint64, id T) draw {
	h := uint64(14695981039346656037) // FNV-1a
	for i := range len(id) {
		h = (h ^ uint64(id[i])) * 1099511628211
	}
	return draw{identity: mix(h ^ mix(seed))}.numbered(0)
}

// numbered is the draw of the same id's call n.
func (d draw) numbered(n int64) draw {
	return draw{identity: d.identity, call: mix(d.identity + uint64(n))}
}

// perID is the same for every call of a custom id.
func (d draw) perID(purpose uint64) uint64 { return mix(d.identity + purpose<<32) }

// perCall differs from call to call.
func (d draw) perCall(purpose uint64) uint64 { return mix(d.call + purpose<<32) }

// unit maps a draw to [0, 1).
func unit(n uint64) float64 { return float64(n>>11) / (1 << 53) }

// mix is the finalizer of SplitMix64.
func mix(n uint64) uint64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}
