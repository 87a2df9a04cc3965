#!/usr/bin/env bash
# Fetches the .proto files of other projects that our contracts import or that errors carry into third_party/, as they
# were published. The test of tools/publish compares them with the Go packages that the services are built with: after
# an update of those, change the versions here and run `make third-party`. It needs go, npm and the network.
set -euo pipefail
cd "$(dirname "$0")/.."
protovalidate=v1.2.2      # github.com/bufbuild/protovalidate
google_proto_files=6.0.1  # npm, the files of github.com/googleapis/googleapis

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
to=third_party
rm -rf "$to/buf" "$to/google"
mkdir -p "$to/buf/validate" "$to/google/rpc" "$to/google/protobuf"

from=$(cd "$dir" && go mod download -json "github.com/bufbuild/protovalidate@$protovalidate" |
  sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
cp "$from/proto/protovalidate/buf/validate/validate.proto" "$from/LICENSE" "$to/buf/validate/"

(cd "$dir" && npm pack --silent "google-proto-files@$google_proto_files" >/dev/null && tar xzf ./*.tgz)
for file in rpc/{status,error_details} protobuf/{any,descriptor,duration,field_mask,timestamp}; do
  cp "$dir/package/google/$file.proto" "$to/google/$file.proto"
done
cp "$dir/package/LICENSE" "$to/google/rpc/"
# The package has no file with the licence of protobuf, but some of its files begin with the whole text.
sed -n '/^\/\/ Copyright/,/^$/ s/^\/\/ \{0,1\}//p' "$to/google/protobuf/timestamp.proto" \
  > "$to/google/protobuf/LICENSE"
chmod -R u+w "$to/buf" "$to/google"
echo "protovalidate $protovalidate, google-proto-files $google_proto_files" | tee "$to/VERSIONS"
