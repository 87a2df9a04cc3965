// Package cluster has the tests that need a Kubernetes cluster: `make cluster-test` runs
// them, and anywhere else they are skipped. They use the namespaces purser, purser-stores
// and purser-callers, which they create and leave.
package cluster
