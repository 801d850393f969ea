#!/usr/bin/env bash
# What Landlock, the filter of system calls and `network: none` cost per run: the same runs one after the other without
# and with them, in turns. The user switch is in both where root runs this. Usage: tests/bench/sandbox.sh [PROGRAM] [RUNS]
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=world.sh
. "$(dirname "$0")/world.sh"
runs=${2:-200}
world box 0
cd "$dir/box"
rm -f requests/*.yml
printf 'version: 1\nhandlers:\n  noop: {run: noop.sh}\n  apart: {run: noop.sh, network: none}\n' >handlers/index.yml
printf 'noop: {type: object}\napart: {type: object}\n' >schema/requests.yml
git add -A
git commit -q -m Handlers && git push -q origin HEAD:main
plain=$(cat "$DISPATCHER_CONFIG")

# Milliseconds per run of kind $1 with the sandbox $2.
one() {
  printf '%s\nworkers: 1\nsandbox: {landlock: %s, seccomp: %s}\n' "$plain" "$2" "$2" >"$DISPATCHER_CONFIG"
  for n in $(seq "$runs"); do printf 'kind: %s\nresource: r%s\n' "$1" "$n" >"requests/$1-$2-$round-$n.yml"; done
  local start
  start=$(now)
  "$bin" --once >"$dir/out" 2>&1
  awk -v took=$(($(now) - start)) -v runs="$runs" 'BEGIN { printf "%.2f", took / runs / 1e6 }'
}

for round in 1 2 3; do
  without=$(one noop off)
  with=$(one noop auto)
  apart=$(one apart auto)
  awk -v a="$without" -v b="$with" -v c="$apart" -v r="$round" 'BEGIN {
    printf "round %d: %.2f ms without, %.2f ms with (%+.2f ms, x %.2f), %.2f ms with no network (%+.2f ms, x %.2f)\n",
      r, a, b, b - a, b / a, c, c - a, c / a }'
done
