// Package k8s has only tests: they render the Kustomize overlays, check the
// objects that `kubectl apply` would get, run the dev overlay's programs on this
// machine, and build the container images.
package k8s
