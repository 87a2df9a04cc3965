#!/usr/bin/env bash
# Checks that a run of builds, tests, linters and examples leaves the checkout as it was.
#
#   tools/cleantree.sh save FILE    records the tracked files that are changed and the files that git doesn't know
#   tools/cleantree.sh check FILE   fails, naming the files, when these have changed since
#
# It works on the checkout in the current directory, which may have changes of its own. What .gitignore names is left
# out. FILE has to be outside of the checkout or ignored.
set -euo pipefail

# state has a line for each changed or unknown file: its status, the digest of its content, its path.
state() {
  git status --porcelain --untracked-files=all -z --no-renames | while IFS= read -r -d '' entry; do
    path=${entry:3}
    digest=deleted
    [ ! -e "$path" ] || digest=$(git hash-object --no-filters -- "$path")
    printf '%s %s %s\n' "${entry:0:2}" "$digest" "$path"
  done
}

[ $# -eq 2 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cd "$(git rev-parse --show-toplevel)"
case $1 in
save) state >"$2" ;;
check)
  changed=$({ diff <(sort "$2") <(state | sort) || true; } | sed -n 's/^[<>] .. [^ ]* //p' | sort -u)
  [ -z "$changed" ] || {
    printf 'these files were changed by what ran, and are neither ignored nor committed:\n%s\n' "$changed" >&2
    exit 1
  }
  ;;
*)
  sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
  exit 2
  ;;
esac
