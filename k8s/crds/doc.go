// Package crds checks the manifests whose kinds are not Kubernetes' own (Gateway API, cert-manager, External Secrets,
// Prometheus operator) against the schemas that those projects publish, as an API server does. It is a module of its
// own, outside of the workspace, for what it needs is needed by nothing else.
package crds
