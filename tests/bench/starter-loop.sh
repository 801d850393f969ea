#!/usr/bin/env bash
# Runs per second of the loop that people start from, and of this program, on the same 100 requests that do nothing.
# Usage: tests/bench/starter-loop.sh [PROGRAM], from the top folder, after `cargo build --release`.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=world.sh
. "$(dirname "$0")/world.sh"
requests=100

# Pull, take one, run it under a time box, log, status, add, commit, push; until the inbox is empty.
starter() {
  while true; do
    git pull -q --ff-only origin main
    req=$(find requests -name '*.yml' -printf '%f\n' | sort | head -n1)
    [ -n "$req" ] || return 0
    uuid=$(date +%s)-$RANDOM$RANDOM
    kind=$(sed -n 's/^kind: *//p' "requests/$req")
    log=logs/$uuid.log
    tmp=$(mktemp -p "$dir")
    rc=0
    timeout 900 "handlers/$kind.sh" "requests/$req" >"$tmp" 2>&1 || rc=$?
    mv "$tmp" "$log"
    mv "requests/$req" "processed/$uuid.yml"
    echo "{\"rc\":$rc,\"finished\":\"$(date --iso=s)\"}" >"processed/$uuid.status"
    git add -A "$log" requests processed
    git commit -q -m "executor $uuid rc=$rc"
    git push -q || true
  done
}

world loop "$requests"
git -C "$dir/loop" config push.default upstream
git -C "$dir/loop" branch -q --set-upstream-to=origin/main
begin=$(now)
(cd "$dir/loop" && starter)
loop=$(($(now) - begin))

world program "$requests"
begin=$(now)
(cd "$dir/program" && "$bin" --no-tui --once >"$dir/out" 2>&1)
program=$(($(now) - begin))

done_by() { git -C "$dir/$1" ls-tree -r --name-only origin/main processed/ | grep -c "$2"; }
[ "$(done_by loop '\.status$')" = "$requests" ]
[ "$(done_by program '/status\.json$')" = "$requests" ]
awk -v n="$requests" -v a="$loop" -v b="$program" 'BEGIN {
  printf "starter loop  %6.1f runs/s (%.2f s)\nthis program  %6.1f runs/s (%.2f s)\nratio         %6.1f\n",
    n / a * 1e9, a / 1e9, n / b * 1e9, b / 1e9, a / b
}'
