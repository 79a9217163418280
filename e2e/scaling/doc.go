// Package scaling measures what a request costs each process of a cluster, and holds
// the model of internal/scaling to runs with one, two and four consumers. Run it by
// `make scaling`, alone on the machine.
package scaling
