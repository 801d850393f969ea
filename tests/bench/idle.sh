#!/usr/bin/env bash
# What an idle daemon costs: processor time and memory (PSS) of the daemon and all of its children.
# Usage: tests/bench/idle.sh [PROGRAM] [SECONDS]
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=world.sh
. "$(dirname "$0")/world.sh"
seconds=${2:-60}
world idle 1
cd "$dir/idle"
"$bin" --no-tui >"$dir/out" 2>&1 &
daemon=$!
trap 'kill $daemon 2>/dev/null; wait $daemon 2>/dev/null || true; rm -rf "$dir"' EXIT
# The one request is done: whatever is made at the first run is there.
until "$bin" wait @ >/dev/null 2>&1; do sleep 0.1; done
"$bin" fetch >/dev/null

family() {
  local children
  echo "$1"
  read -ra children < <(cat /proc/"$1"/task/*/children 2>/dev/null | tr '\n' ' ') || true
  for child in "${children[@]}"; do family "$child"; done
}
# Of the living and of those that were waited for, in clock ticks.
ticks() {
  for pid in $(family "$daemon"); do cut -d')' -f2 /proc/"$pid"/stat 2>/dev/null || true; done | awk '{ n += $12 + $13 + $14 + $15 } END { print n }'
}
before=$(ticks)
sleep "$seconds"
after=$(ticks)
memory=$(for pid in $(family "$daemon"); do cat /proc/"$pid"/smaps_rollup 2>/dev/null || true; done | awk '/^Pss:/ { n += $2 } END { print n }')
awk -v t=$((after - before)) -v hz="$(getconf CLK_TCK)" -v s="$seconds" -v kb="$memory" -v n="$(family "$daemon" | wc -l)" \
  'BEGIN { printf "idle for %d s: %.2f %% of a processor, %.1f MiB in %d processes\n", s, t / hz / s * 100, kb / 1024, n }'
