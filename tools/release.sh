#!/usr/bin/env bash
# Prepares a release: a commit in which every module requires its siblings at that version, a tag for each released
# module and for the whole, and in bin/release the contracts for clients in other languages. It pushes nothing, and
# neither the branch nor the files of the checkout change.
#
#   tools/release.sh v0.1.0 proto pkg proto/client
#
# Go ignores the replace directives of a dependency, so what counts for whoever requires a released module are the
# versions in its own requirements.
set -euo pipefail
cd "$(dirname "$0")/.."
version=${1:-}
shift || true
modules=("$@")
prefix=github.com/purserhq/purser

[[ $version =~ ^v(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?$ ]] || {
  echo "VERSION is \"$version\": it has to look like v0.1.0" >&2
  exit 2
}
[[ $version =~ ^v[01]\. ]] || {
  echo "$version: from v2 on the module paths have to end in /v2, which this doesn't do" >&2
  exit 2
}
[ ${#modules[@]} -gt 0 ] || { echo "no modules are named" >&2; exit 2; }
for m in "${modules[@]}"; do
  [ "$(sed -n 's/^module //p' "$m/go.mod")" = "$prefix/$m" ] || { echo "$m/go.mod is not of $prefix/$m" >&2; exit 2; }
done
if [ -n "$(git status --porcelain)" ]; then
  echo "the checkout has changes that are not committed:" >&2
  git status --short >&2
  exit 1
fi

# The contracts are those of the tagged commit: it differs from this one in go.mod files only.
publish() {
  rm -rf bin/release
  GOWORK=off go -C tools/publish run -trimpath . "$PWD" "$PWD/bin/release" "$version"
  echo "attach to the release: $(echo bin/release/*)"
}

tags=("$version")
for m in "${modules[@]}"; do tags+=("$m/$version"); done
there=()
for t in "${tags[@]}"; do
  if git rev-parse -q --verify "refs/tags/$t" >/dev/null; then there+=("$t"); fi
done
if [ ${#there[@]} -eq ${#tags[@]} ]; then
  if [ "$(git rev-parse "$version^{commit}^")" = "$(git rev-parse HEAD)" ]; then
    echo "$version is prepared already, of this commit: ${tags[*]}"
    publish
    exit 0
  fi
  echo "$version exists, of another commit ($(git rev-parse --short "$version^{commit}^")): choose a new version" >&2
  exit 1
fi
if [ ${#there[@]} -gt 0 ]; then
  echo "some tags exist already: ${there[*]}; delete them, or choose a new version" >&2
  exit 1
fi

tree=$(mktemp -d)
trap 'git worktree remove --force "$tree" 2>/dev/null || true; rm -rf "$tree"' EXIT
git worktree add --quiet --detach "$tree" HEAD
# All modules of the workspace, not the released ones alone: one version of a sibling in the whole tree.
for file in $(git -C "$tree" ls-files '*go.mod'); do
  for m in "${modules[@]}"; do
    if grep -qE "^(require)?[[:space:]]*$prefix/$m v" "$tree/$file"; then
      GOWORK=off GOFLAGS=-mod=mod go mod edit -require="$prefix/$m@$version" "$tree/$file"
    fi
  done
done
for m in "${modules[@]}"; do
  others=$(grep -E "^(require)?[[:space:]]*$prefix/[^ ]+ v" "$tree/$m/go.mod" | grep -vE " $version( //|\$)" || true)
  if [ -n "$others" ]; then
    echo "$others" >&2
    echo "$m requires a module of this repository that is not released: add it to the list" >&2
    exit 1
  fi
done
git -C "$tree" commit --quiet --all --allow-empty -m "Release $version"
commit=$(git -C "$tree" rev-parse HEAD)
for t in "${tags[@]}"; do git tag -a -m "Release $version" "$t" "$commit"; done
echo "prepared $version as $(git rev-parse --short "$commit"): ${tags[*]}"
publish
echo "publish it with: git push origin ${tags[*]}"
