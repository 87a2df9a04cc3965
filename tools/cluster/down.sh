#!/usr/bin/env bash
# Stops the cluster that up.sh started, by the ids of its processes, and removes its containers' processes. It leaves
# CLUSTER_DIR, except for the data of the cluster.
set -euo pipefail
dir=${CLUSTER_DIR:-/var/tmp/purser-cluster}
[ -d "$dir" ] || exit 0
socket=$dir/containerd.sock
stop() {
  for name in "$@"; do
    [ -f "$dir/$name.pid" ] || continue
    pid=$(cat "$dir/$name.pid")
    kill "$pid" 2>/dev/null || true
    for _ in $(seq 1 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.2; done
    rm -f "$dir/$name.pid"
  done
}
stop kubelet controllers scheduler proxy router
for task in $(ctr -a "$socket" -n k8s.io tasks list -q 2>/dev/null); do
  ctr -a "$socket" -n k8s.io tasks delete -f "$task" >/dev/null 2>&1 || true
done
stop containerd apiserver etcd
for mount in $(awk -v dir="$dir/" 'index($2, dir) == 1 || index($2, "/run/purser-cluster/") == 1 {print $2}' \
  /proc/mounts | sort -r); do
  umount "$mount" || true
done
rm -rf "$dir"/{etcd,kubelet,volume,containerd}
# The rules of kube-proxy and kube-router; all others stay. up.sh has made sure that they are of this cluster.
[ -f "$dir/started" ] || { echo stopped; exit 0; }
for t in iptables ip6tables; do $t-save | grep -v KUBE | $t-restore || true; done
rm -f "$dir/started"
echo stopped
