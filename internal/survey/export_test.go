package survey

// NewBoundedCounter compares this many bodies.
func NewBoundedCounter(bodies int) *Counter {
	c := NewCounter()
	c.maxBodies = bodies
	return c
}
