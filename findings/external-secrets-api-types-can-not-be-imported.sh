#!/usr/bin/env bash
# Software:  external-secrets v1.3.2 (github.com/external-secrets/external-secrets), Go 1.26
# Expected:  the Go types of its Kubernetes objects are a package of the module of that version, so that a test can
#            decode its manifests strictly: go get of the module gives apis/externalsecrets/v1.
# Observed:  the module of that version hasn't got the package. Its folder is a module of its own, which the first one
#            replaces by a path of its repository: a replacement that counts nowhere else.
# Cause:     a nested go.mod takes its folder out of the module around it, and the nested module has no version that
#            goes with the release.
# Care:      check manifests against the schemas in its CRDs, which the module around it does have.
# Output:    apis/externalsecrets/v1: not in the module
#            deploy/crds/bundle.yaml: in the module
# Exit code: 0 while the types are missing and the CRDs are there; 1 when it isn't so any more; 2 when it could not be
#            tried.
set -euo pipefail
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
module=github.com/external-secrets/external-secrets@v1.3.2
download=$(GOWORK=off timeout 110 go mod download -json "$module" 2>/dev/null) || exit 2
folder=$(printf '%s\n' "$download" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
[ -d "$folder" ] || exit 2
types=in crds=not\ in
[ -d "$folder/apis/externalsecrets/v1" ] || types=not\ in
[ -f "$folder/deploy/crds/bundle.yaml" ] && crds=in
echo "apis/externalsecrets/v1: $types the module"
echo "deploy/crds/bundle.yaml: $crds the module"
[ "$types" = "not in" ] && [ "$crds" = in ] || exit 1
