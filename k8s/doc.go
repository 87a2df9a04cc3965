// Package k8s holds no code: its tests render the overlays and check what
// would be applied, and build the images.
package k8s
