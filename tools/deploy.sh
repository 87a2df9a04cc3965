#!/usr/bin/env bash
# Releases an overlay: checks its Secrets, runs the migration Jobs, rolls the services out, and stops at
# the first step that fails, with the log of what failed. docs/deploy.md describes the steps.
#
#   tools/deploy.sh k8s/overlays/prod
#
# KUBECTL is the command to use ("kubectl --context=prod"). JOB_TIMEOUT (1800) and ROLLOUT_TIMEOUT (1800)
# are in seconds. kubectl decides on the cluster, as ever, by KUBECONFIG.
set -euo pipefail
overlay=${1:?name the overlay: tools/deploy.sh k8s/overlays/prod}
read -ra kubectl <<<"${KUBECTL:-kubectl}"
say() { printf '%s %s\n' "$(date +%H:%M:%S)" "$*"; }
fail() { printf '%s: %s\n' deploy "$*" >&2; exit 1; }

all=$(mktemp); trap 'rm -f "$all"' EXIT
"${kubectl[@]}" kustomize "$overlay" >"$all"

# names KIND prints "namespace name" of the rendered objects of a kind. kustomize indents metadata by two.
names() {
  awk -v kind="$1" 'function end() { if (k == kind) print ns, n; k = ns = n = top = "" }
    /^---/ {end(); next} /^[a-zA-Z]/ {top = $1} /^kind:/ {k = $2}
    top == "metadata:" && /^  name:/ {n = $2} top == "metadata:" && /^  namespace:/ {ns = $2} END {end()}' "$all"
}
mapfile -t jobs < <(names Job | awk '{print $2}')
mapfile -t deployments < <(names Deployment | awk '{print $2}')
ns=$(names Deployment | awk 'NR == 1 {print $1}')
[ -n "$ns" ] && [ ${#jobs[@]} -gt 0 ] || fail "$overlay has no Deployment in a namespace, or no Job"
in_ns=("${kubectl[@]}" -n "$ns")

# A pod whose Secret is missing waits for it for ever, without a word. What an Ingress names may come later.
missing=()
for s in $(awk '/^kind:/ {pods = $2 ~ /^(Deployment|Job|StatefulSet)$/}
  pods && $1 == "secretName:" {print $2} pods && $2 == "{secretName:" {print $3}' "$all" | sort -u); do
  names Secret | awk '{print $2}' | grep -qx "$s" || "${in_ns[@]}" get secret "$s" -o name >/dev/null 2>&1 ||
    missing+=("$s")
done
[ ${#missing[@]} -eq 0 ] || fail "the namespace $ns has no Secret ${missing[*]} (or it can't be read):" \
  "create it first; nothing was changed"

say "migrating: ${jobs[*]}"
# The spec of a Job can't be changed: those of the last release are deleted, and their pods with them.
"${in_ns[@]}" delete job "${jobs[@]}" --ignore-not-found --cascade=foreground
"${kubectl[@]}" apply -f "$all" -l 'app.kubernetes.io/component!=server'

job_log() { "${in_ns[@]}" logs -l "batch.kubernetes.io/job-name=$1" --all-containers --prefix --tail=30 >&2 || true; }
until=$((SECONDS + ${JOB_TIMEOUT:-1800}))
declare -A seen
open=("${jobs[@]}")
while [ ${#open[@]} -gt 0 ]; do
  left=()
  for j in "${open[@]}"; do
    state=$("${in_ns[@]}" get job "$j" \
      -o 'jsonpath={.status.failed}/{.status.conditions[?(@.status=="True")].type}')
    case $state in
      */*Complete*) say "$j is complete" ;;
      */Failed* | */*" Failed"* | */FailureTarget*)
        job_log "$j"
        fail "$j failed; see its log above. No service was replaced: the previous release goes on." ;;
      *)
        left+=("$j")
        if [ "${state%%/*}" != "${seen[$j]:-}" ] && [ -n "${state%%/*}" ]; then
          seen[$j]=${state%%/*}
          job_log "$j"
          say "$j failed ${state%%/*} times, and is tried again; see its log above"
        fi ;;
    esac
  done
  open=("${left[@]}")
  [ ${#open[@]} -eq 0 ] && break
  if [ $SECONDS -ge $until ]; then
    for j in "${open[@]}"; do
      "${in_ns[@]}" describe pod -l "batch.kubernetes.io/job-name=$j" | sed -n '/^Events:/,$p' >&2 || true
      job_log "$j"
    done
    fail "${open[*]} did not end within ${JOB_TIMEOUT:-1800} s; no service was replaced"
  fi
  sleep 2
done

say "rolling out: ${deployments[*]}"
"${kubectl[@]}" apply -f "$all"
for d in "${deployments[@]}"; do
  if ! "${in_ns[@]}" rollout status "deployment/$d" --timeout="${ROLLOUT_TIMEOUT:-1800}s"; then
    "${in_ns[@]}" get pods -l "app.kubernetes.io/name=$d,app.kubernetes.io/component=server" >&2 || true
    "${in_ns[@]}" get events --field-selector type=Warning --sort-by=.lastTimestamp | tail -15 >&2 || true
    "${in_ns[@]}" logs -l "app.kubernetes.io/name=$d,app.kubernetes.io/component=server" --prefix --tail=15 >&2 || true
    fail "$d was not rolled out. The replicas of the previous release that are left go on." \
      "To return: kubectl -n $ns rollout undo deployment/$d"
  fi
done
say "released: ${deployments[*]}"
