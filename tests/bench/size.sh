#!/usr/bin/env bash
# What many runs leave in the git folder: the most loose objects and packs that were ever there, and its size against the
# size after `git gc`. Usage: tests/bench/size.sh [PROGRAM] [RUNS], from the top folder, after `cargo build --release`.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=world.sh
. "$(dirname "$0")/world.sh"
runs=${2:-20000}
wave=500
world size 0
cd "$dir/size"
"$bin" --no-tui >"$dir/out" 2>&1 &
daemon=$!
trap 'kill $daemon 2>/dev/null; wait $daemon 2>/dev/null || true; rm -rf "$dir"' EXIT
most_loose=0 most_packs=0
watch() {
  local loose packs
  loose=$(find .git/objects -path '*/??/*' -type f 2>/dev/null | wc -l)
  packs=$(find .git/objects/pack -name '*.pack' 2>/dev/null | wc -l)
  most_loose=$((loose > most_loose ? loose : most_loose))
  most_packs=$((packs > most_packs ? packs : most_packs))
}
done_=0
while [ "$done_" -lt "$runs" ]; do
  for n in $(seq "$wave"); do
    printf 'kind: noop\nresource: r%s\n' "$((n % 8))" >"requests/.tmp"
    mv requests/.tmp "requests/$done_-$n.yml"
  done
  until [ -z "$(find requests -name '*.yml' -print -quit)" ]; do
    watch
    sleep 0.5
  done
  done_=$((done_ + wave))
done
"$bin" drain >/dev/null
wait $daemon || true
"$bin" --no-tui --once >>"$dir/out" 2>&1
watch
before=$(du -sk .git | cut -f1)
cp -r .git "$dir/gc"
git --git-dir="$dir/gc" gc -q
after=$(du -sk "$dir/gc" | cut -f1)
awk -v runs="$runs" -v loose="$most_loose" -v packs="$most_packs" -v a="$before" -v b="$after" -v left="$(git ls-tree HEAD:processed | wc -l)" 'BEGIN {
  printf "after %d runs: %d on the branch; at most %d loose objects and %d packs at a time\n", runs, left - 1, loose, packs
  printf ".git: %.1f MiB, %.1f MiB after git gc\nratio %.2f\n", a / 1024, b / 1024, a / b
}'
