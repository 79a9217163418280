// Package top is the live overview of a cluster in a terminal: what is in flight,
// at which rate, what holds it up, and keys to steer it. It knows what the HTTP
// API says, and nothing else.
package top
