#!/usr/bin/env bash
# Runs the tests that need a cluster (k8s/cluster). The cluster is that of KUBECONFIG; or, with K8S_BIN, the one that
# up.sh starts on this machine and that stays up afterwards. Without either, it says so and ends well.
#
# CLUSTER_LOAD is a command that gives images to the cluster, by their names: "kind load docker-image" for kind.
# NODE_IMAGE is an image with Node.js for one of the callers. RUN chooses tests, as go test -run. CALLER_RATE is how
# many calls a second each client makes to each service (50), REPLICAS the numbers of replicas that are restarted
# ("1 3").
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ -z "${KUBECONFIG:-}" ] && [ -n "${K8S_BIN:-}" ]; then
  tools/cluster/up.sh
  export KUBECONFIG=${CLUSTER_DIR:-/var/tmp/purser-cluster}/kubeconfig
  CLUSTER_LOAD=${CLUSTER_LOAD:-tools/cluster/load.sh}
fi
if [ -z "${KUBECONFIG:-}" ] || ! kubectl get --raw /readyz >/dev/null 2>&1; then
  echo "cluster-test: skipped, for there is no cluster: set KUBECONFIG to one that answers, or K8S_BIN (tools/cluster)"
  exit 0
fi
[ -n "${CLUSTER_LOAD:-}" ] || { echo 'set CLUSTER_LOAD, such as "kind load docker-image"' >&2; exit 2; }
tool=${IMAGE_TOOL:-$(docker info >/dev/null 2>&1 && echo docker || echo "buildah --storage-driver vfs")}
make --no-print-directory images TAG=cluster-test IMAGE_TOOL="$tool"
mkdir -p .build/images/caller .build/images/caller-node
CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o .build/images/caller/caller ./k8s/cluster/caller
cp k8s/cluster/node/{caller.mjs,package.json,package-lock.json} .build/images/caller-node/
(cd .build/images/caller-node && npm ci --no-audit --no-fund --silent)
$tool build -f k8s/cluster/caller/Dockerfile -t purser/caller:cluster-test .build/images/caller
$tool build --build-arg NODE_IMAGE="${NODE_IMAGE:-docker.io/library/node:22-slim}" -f k8s/cluster/node/Dockerfile \
  -t purser/caller-node:cluster-test .build/images/caller-node
# The images of the stores, where this machine has them; the cluster pulls them otherwise.
for image in $(sed -n 's/^ *image: //p' k8s/overlays/dev/{postgres,redis}.yaml | sort -u); do
  $tool inspect "docker.io/library/$image" >/dev/null 2>&1 && $CLUSTER_LOAD "docker.io/library/$image"
done
$CLUSTER_LOAD purser/{auth,wallet,portfolio,caller,caller-node}:cluster-test
PURSER_CLUSTER_TEST=1 go test -trimpath -count=1 -timeout 90m -v -run "${RUN:-.}" ./k8s/cluster
