// Package suitetest holds the tests of the whole suite: the three services on
// real Postgres, real Redis and a real EVM chain, driven through their public
// gRPC API only.
package suitetest
