#!/usr/bin/env bash
# Builds the pinned grpcurl into bin/, without the xDS resolver: that is half of what there is to compile, and is only
# for targets like xds:///name. Nothing else differs from grpcurl as published.
set -euo pipefail
cd "$(dirname "$0")/publish"
export GOWORK=off
published=$(go list -f '{{.Dir}}' github.com/fullstorydev/grpcurl/cmd/grpcurl)
source=.build/grpcurl
mkdir -p "$source"
for file in "$published"/*.go; do
  sed '/^\t_ "google.golang.org\/grpc\/xds"$/d' "$file" > "$source/$(basename "$file")"
done
version=$(go list -m -f '{{.Version}}' github.com/fullstorydev/grpcurl)
go build -trimpath -ldflags "-X main.version=$version" -o ../../bin/grpcurl "./$source"
