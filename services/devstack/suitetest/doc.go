// Package suitetest tests the whole suite: the three services on real Postgres, real Redis and a real EVM chain,
// through their public gRPC API.
package suitetest
