#!/usr/bin/env bash
# Gives images that buildah has to the cluster of up.sh: tools/cluster/load.sh purser/auth:dev…
set -euo pipefail
dir=${CLUSTER_DIR:-/var/tmp/purser-cluster}
for image in "$@"; do
  name=$image
  case $name in localhost/* | docker.io/*) ;; *) name=docker.io/$name ;; esac
  archive=$(mktemp -u)
  buildah --storage-driver "${STORAGE_DRIVER:-vfs}" push -q "$image" "docker-archive:$archive:$name"
  ctr -a "$dir/containerd.sock" -n k8s.io images import "$archive" >/dev/null
  rm -f "$archive"
done
