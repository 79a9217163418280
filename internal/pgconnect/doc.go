// Package pgconnect is how this project connects to Postgres: with session
// settings of its own, whatever the defaults of the server, the database and the
// role are, through a pooler or not, and never for longer than some seconds on a
// server that is silent.
//
// A pooler that gives out sessions by the transaction, such as pgbouncer in its
// usual mode, keeps neither session settings nor session locks nor prepared
// statements. Inspect finds out whether there is one between. Through it every
// transaction brings its settings along (PinSQL); what needs a session of its
// own, leadership and migrations, needs a URL of the database itself.
package pgconnect
