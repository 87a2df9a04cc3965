#!/usr/bin/env bash
# Starts a cluster of one node on this machine, from the programs that build.sh built, as root.
#
#   K8S_BIN=FOLDER tools/cluster/up.sh     prints the KUBECONFIG to use; does nothing if it runs already
#   tools/cluster/down.sh                  stops it
#
# CLUSTER_DIR (/var/tmp/purser-cluster) is where it keeps everything. From Debian it needs the packages containerd runc
# containernetworking-plugins etcd-server iptables conntrack ipset buildah, and a kubectl.
set -euo pipefail
: "${K8S_BIN:?name the folder that build.sh filled}"
here=$(dirname "$(realpath "$0")")
dir=${CLUSTER_DIR:-/var/tmp/purser-cluster}
socket=$dir/containerd.sock
state=/run/purser-cluster
mkdir -p "$dir"/{pki,etcd,log,cni,pause,volume} $state
cd "$dir"
bg() {
  local name=$1
  shift
  [ -f "$name.pid" ] && kill -0 "$(cat "$name.pid")" 2>/dev/null && return 0
  setsid "$@" >"log/$name.log" 2>&1 </dev/null &
  echo $! >"$name.pid"
}
until_ready() { # TEXT COMMAND…
  local what=$1
  shift
  for _ in $(seq 1 120); do "$@" >/dev/null 2>&1 && return 0; sleep 1; done
  echo "$what did not become ready within two minutes; see $dir/log" >&2
  exit 1
}
export KUBECONFIG=$dir/kubeconfig

# down.sh removes the packet filter's rules of Kubernetes, which must not be those of another cluster.
if [ ! -f proxy.pid ] && { iptables-save; ip6tables-save; } 2>/dev/null | grep -q KUBE; then
  echo "this machine has packet filter rules of another cluster: up.sh does not start a second one here" >&2
  exit 1
fi

[ -f pki/sa.key ] || openssl genrsa -out pki/sa.key 2048 2>/dev/null
[ -f tokens.csv ] || (umask 077 && echo "$(openssl rand -hex 16),admin,admin,\"system:masters\"" >tokens.csv)
# Only the API server may speak to the kubelet, which listens on all addresses.
if [ ! -f pki/kubelet-client.crt ]; then
  openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj /CN=purser -keyout pki/client-ca.key \
    -out pki/client-ca.crt 2>/dev/null
  openssl req -newkey rsa:2048 -nodes -subj /O=system:masters/CN=apiserver -keyout pki/kubelet-client.key 2>/dev/null |
    openssl x509 -req -days 3650 -CA pki/client-ca.crt -CAkey pki/client-ca.key -CAcreateserial \
      -out pki/kubelet-client.crt 2>/dev/null
fi
(umask 077 && cat >kubeconfig <<Y
apiVersion: v1
kind: Config
clusters: [{name: purser, cluster: {server: "https://127.0.0.1:16443", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: $(cut -d, -f1 tokens.csv)}}]
contexts: [{name: purser, context: {cluster: purser, user: admin}}]
current-context: purser
Y
)
bg etcd etcd --data-dir etcd --unsafe-no-fsync --listen-client-urls http://127.0.0.1:12379 \
  --advertise-client-urls http://127.0.0.1:12379 --listen-peer-urls http://127.0.0.1:12380
bg apiserver "$K8S_BIN/kube-apiserver" --etcd-servers=http://127.0.0.1:12379 \
  --service-cluster-ip-range=10.96.0.0/16 --cert-dir=pki --secure-port=16443 \
  --service-account-key-file=pki/sa.key --service-account-signing-key-file=pki/sa.key \
  --service-account-issuer=https://kubernetes.default.svc --token-auth-file=tokens.csv \
  --authorization-mode=Node,RBAC --allow-privileged=true --kubelet-preferred-address-types=InternalIP \
  --kubelet-client-certificate=pki/kubelet-client.crt --kubelet-client-key=pki/kubelet-client.key
until_ready "the API server" kubectl get --raw /readyz
bg controllers "$K8S_BIN/kube-controller-manager" --kubeconfig=kubeconfig --leader-elect=false \
  --service-account-private-key-file=pki/sa.key --root-ca-file=pki/apiserver.crt \
  --cluster-cidr=10.244.0.0/16 --allocate-node-cidrs=true
bg scheduler "$K8S_BIN/kube-scheduler" --kubeconfig=kubeconfig --leader-elect=false

# runc, for crun refuses hybrid cgroups; restrict_oom_score_adj where the capability SYS_RESOURCE is missing.
containerd config default | sed -E -e 's#(sandbox_image|sandbox) = .*#\1 = "localhost/pause:1"#' \
  -e 's#bin_dir = "/opt/cni/bin"#bin_dir = "/usr/lib/cni"#' \
  -e "s#conf_dir = \"/etc/cni/net.d\"#conf_dir = \"$dir/cni\"#" \
  -e "s#^root = .*#root = \"$dir/containerd\"#; s#^state = .*#state = \"$state\"#" \
  -e "s#address = \"/run/containerd/containerd.sock\"#address = \"$socket\"#" \
  -e 's/restrict_oom_score_adj = false/restrict_oom_score_adj = true/' >containerd.toml
cat >cni/10-bridge.conflist <<'J'
{"cniVersion": "0.4.0", "name": "bridge", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "ipam": {"type": "host-local",
    "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "10.96.0.0/16"}, {"dst": "10.244.0.0/16"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
J
bg containerd containerd -c containerd.toml
until_ready containerd ctr -a "$socket" version
if [ ! -f pause/pause.tar ]; then
  cat >pause/main.go <<'G'
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM, syscall.SIGINT)
	<-c
}
G
  (cd pause && GOWORK=off CGO_ENABLED=0 go build -o pause main.go)
  printf 'FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n' >pause/Dockerfile
  buildah --storage-driver vfs build -q -t localhost/pause:1 pause
  buildah --storage-driver vfs push -q localhost/pause:1 "docker-archive:$dir/pause/pause.tar:localhost/pause:1"
fi
ctr -a "$socket" -n k8s.io images import pause/pause.tar >/dev/null
cat >kubelet.yaml <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: false}, x509: {clientCAFile: $dir/pki/client-ca.crt}}
authorization: {mode: AlwaysAllow}
cgroupDriver: cgroupfs
failSwapOn: false
failCgroupV1: false
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix://$socket
evictionHard: {nodefs.available: "1%", imagefs.available: "1%", memory.available: "100Mi"}
Y
bg kubelet "$K8S_BIN/kubelet" --config=kubelet.yaml --kubeconfig=kubeconfig --hostname-override=node1 \
  --root-dir="$dir/kubelet" --cert-dir=pki
touch started
bg proxy "$K8S_BIN/kube-proxy" --kubeconfig=kubeconfig --hostname-override=node1 --proxy-mode=iptables \
  --cluster-cidr=10.244.0.0/16 --conntrack-max-per-core=0
until_ready "the node" kubectl wait --for=condition=Ready node/node1 --timeout=1s
bg router "$K8S_BIN/kube-router" --run-router=false --run-firewall=true --run-service-proxy=false \
  --kubeconfig=kubeconfig --hostname-override=node1

if [ ! -f coredns/coredns.tar ]; then
  mkdir -p coredns && cp "$K8S_BIN/coredns" coredns/
  printf 'FROM scratch\nCOPY coredns /coredns\nENTRYPOINT ["/coredns"]\n' >coredns/Dockerfile
  buildah --storage-driver vfs build -q -t docker.io/library/coredns:1 coredns
  buildah --storage-driver vfs push -q docker.io/library/coredns:1 \
    "docker-archive:$dir/coredns/coredns.tar:docker.io/library/coredns:1"
fi
ctr -a "$socket" -n k8s.io images import coredns/coredns.tar >/dev/null
kubectl apply -f "$here/coredns.yaml"
# A volume for Postgres, which runs as user 999.
chown 999:999 volume
kubectl apply -f - <<Y
apiVersion: v1
kind: PersistentVolume
metadata: {name: volume}
spec:
  capacity: {storage: 5Gi}
  accessModes: [ReadWriteOnce]
  persistentVolumeReclaimPolicy: Retain
  hostPath: {path: $dir/volume}
Y
kubectl -n kube-system rollout status deployment/coredns --timeout=2m
echo "export KUBECONFIG=$KUBECONFIG"
