#!/usr/bin/env bash
# The contracts against those that were released last, which proto/released.binpb holds as an image of buf.
#
#   tools/contracts.sh check   fails, naming what is gone, when a client of the released contracts would break
#   tools/contracts.sh image   writes the image of the present contracts; only for a release
#   tools/contracts.sh fresh   fails unless the image is that of the present contracts
#
# It works on the checkout in the current directory and needs `make tools` there. BUF names buf.
set -euo pipefail
buf=${BUF:-bin/tools/buf}
released=proto/released.binpb

image() { "$buf" build proto --path proto/purser --exclude-source-info -o "$1#format=binpb"; }

case ${1:-} in
check) "$buf" breaking proto --exclude-imports --against "$released" ;;
image) image "$released" ;;
fresh)
  now=$(mktemp)
  trap 'rm -f "$now"' EXIT
  image "$now"
  cmp -s "$now" "$released" || {
    echo "$released is not of the present contracts: run make contracts-image and commit it" >&2
    exit 1
  }
  ;;
*)
  sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
  exit 2
  ;;
esac
