#!/usr/bin/env bash
# Builds the programs of a Kubernetes cluster from the Go module proxy, into a folder that up.sh reads as K8S_BIN: for
# machines without kind, a registry or a virtual machine. It takes 15 to 40 minutes on two processors.
#
#   tools/cluster/build.sh FOLDER
#
# kube-router enforces the network policies. The release is the last one that runs on cgroups v1 as well.
set -euo pipefail
out=$(realpath -m "${1:?name a folder for the programs}")
mkdir -p "$out"
kubernetes=v1.34.4 staging=v0.34.4 coredns=v1.12.4
export GOFLAGS=-mod=mod CGO_ENABLED=0 GOWORK=off
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
build() { [ -x "$out/$1" ] || go build -p 2 -trimpath -ldflags='-s -w' -o "$out/$1" "$2"; }

mkdir "$scratch/kubernetes" "$scratch/dns" "$scratch/router"
cd "$scratch/dns"
printf 'module scratch\n\ngo 1.24.0\n' >go.mod
requirements=$(go mod download -json k8s.io/kubernetes@$kubernetes | sed -n 's/.*"GoMod": "\(.*\)",*/\1/p')
cd "$scratch/kubernetes"
# Its own requirements, with the staging modules at the release that belongs to it.
sed -e 's#^module .*#module scratch#' -e '/^replace/,/^)/d' "$requirements" >go.mod
{
  echo "require k8s.io/kubernetes $kubernetes"
  echo 'replace ('
  sed -n "s#^\t\(k8s.io/[a-z-]*\) v0[.]0[.]0\( //.*\)*\$#\t\1 => \1 $staging#p" "$requirements"
  for m in cri-api cri-client sample-cli-plugin sample-controller sample-apiserver; do
    grep -qE "k8s.io/$m v0[.]0[.]0( |\$)" "$requirements" || echo "	k8s.io/$m => k8s.io/$m $staging"
  done
  echo ')'
} >>go.mod
for c in kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet; do
  build $c k8s.io/kubernetes/cmd/$c
done

cd "$scratch/dns"
printf 'module dns\n\ngo 1.24.0\n\nrequire github.com/coredns/coredns %s\n' $coredns >go.mod
cat >main.go <<'G'
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/ready"
)

func main() {
	dnsserver.Directives = []string{"errors", "health", "ready", "cache", "kubernetes"}
	coremain.Run()
}
G
[ -x "$out/coredns" ] || { go mod tidy >/dev/null 2>&1; build coredns .; }

cd "$scratch/router"
printf 'module router\n\ngo 1.24.0\n' >go.mod
router=github.com/cloudnativelabs/kube-router/v2/cmd/kube-router
[ -x "$out/kube-router" ] || { go get $router@v2.1.0 >/dev/null 2>&1; build kube-router $router; }
ls "$out"
