#!/usr/bin/env bash
# Software:  @grpc/proto-loader 0.8.1 (protobufjs 7.6.6)
# Expected:  a method's options are the same whether the .proto files or their descriptor set are loaded, so that a
#            client can find out from either which methods it may repeat.
# Observed:  loadSync reads idempotency_level and custom options. loadFileDescriptorSetFromBuffer says
#            IDEMPOTENCY_UNKNOWN for every method, the value of a method that does not state one.
# Cause:     proto-loader reads Method.parsedOptions, which only protobufjs's parser of .proto files fills;
#            Method.fromDescriptor fills Method.options.
# Care:      make a retry policy from the .proto files. One made from a descriptor set is empty, and nothing says so.
# Output:    from the .proto file: NO_SIDE_EFFECTS
#            from its descriptor set: IDEMPOTENCY_UNKNOWN (the set has it: NO_SIDE_EFFECTS)
# Exit code: 0 while it is so; 1 when both agree; 2 when it could not be tried.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo '{"private": true}' > package.json
timeout 100 npm install --no-audit --no-fund --silent --ignore-scripts @grpc/proto-loader@0.8.1 protobufjs@7.6.6 ||
  exit 2
cat > a.proto <<'PROTO'
syntax = "proto3";
package a;
service Store {
  rpc Get(M) returns (M) { option idempotency_level = NO_SIDE_EFFECTS; }
}
message M {}
PROTO
cat > try.cjs <<'JS'
const loader = require('@grpc/proto-loader');
const descriptor = require('protobufjs/ext/descriptor');

// What protoc --descriptor_set_out writes of a.proto.
const set = descriptor.FileDescriptorSet.encode(descriptor.FileDescriptorSet.fromObject({ file: [{
  name: 'a.proto', package: 'a', syntax: 'proto3', messageType: [{ name: 'M' }],
  service: [{ name: 'Store', method: [{ name: 'Get', inputType: '.a.M', outputType: '.a.M',
    options: { idempotencyLevel: 'NO_SIDE_EFFECTS' } }] }],
}] })).finish();
const level = (definition) => definition['a.Store'].Get.options.idempotency_level;
const source = level(loader.loadSync('a.proto', { includeDirs: ['.'] }));
const binary = level(loader.loadFileDescriptorSetFromBuffer(set));
const sent = descriptor.FileDescriptorSet.toObject(descriptor.FileDescriptorSet.decode(set), { enums: String })
  .file[0].service[0].method[0].options.idempotencyLevel;
console.log('from the .proto file:', source);
console.log(`from its descriptor set: ${binary} (the set has it: ${sent})`);
if (source !== 'NO_SIDE_EFFECTS' || sent !== 'NO_SIDE_EFFECTS') process.exit(2);
process.exit(binary === 'IDEMPOTENCY_UNKNOWN' ? 0 : 1);
JS
node try.cjs
