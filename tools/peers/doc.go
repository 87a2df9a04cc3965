// Package peers measures pkg beside the libraries that a team would take in its place, on one server in one run. They
// are dependencies of this module only, which nothing requires.
//
// Promise: each benchmark makes the same operation by both, by turns, against the same Redis or Postgres with the same
// settings; ratio is our time by the peer's.
//
// Limits: what the peers don't do is not measured: none of the locks has a fence that a database can check.
package peers
