#!/usr/bin/env bash
# What history costs: recording and pushing one run, and `git status`, with only `keep_recent` runs in history and with
# 100,000. Both daemons run at the same time and take turns, so that the machine's other work weighs on both alike.
# Usage: tests/bench/growth.sh [PROGRAM] [RUNS] [ROUNDS], from the top folder, after `cargo build --release`.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=world.sh
. "$(dirname "$0")/world.sh"
here=$(realpath "$(dirname "$0")")
runs=${2:-100000}
rounds=${3:-60}
keep=500
daemons=()
# shellcheck disable=SC2317 # called by the trap
end() {
  for pid in "${daemons[@]}"; do kill "$pid" 2>/dev/null && wait "$pid" || true; done
  rm -rf "$dir"
}
trap end EXIT

# A world with so many runs in history.
aged() {
  world "$1" 0
  local tip
  tip=$(git -C "$dir/$1.git" rev-parse main)
  awk -v n="$2" -v keep=$keep -v tip="$tip" -v now="$(date +%s)" -f "$here/history.awk" |
    git -C "$dir/$1.git" fast-import --quiet --force
  git -C "$dir/$1" pull -q --ff-only origin main
  git -C "$dir/$1" fetch -q
}
start() {
  (cd "$dir/$1" && STATE_DIRECTORY=$dir/state-$1 RUNTIME_DIRECTORY=$dir/run-$1 exec "$bin" --no-tui >"$dir/$1.out" 2>&1) &
  daemons+=($!)
}
# Milliseconds from a run's own last event, which is written before it is recorded, to the push.
published() {
  local id
  id=$(sed -n "s/.*\"git.committed\".*\"runs\":\[\"\([^\"]*\)\"\].*/\1/p" "$dir/$1/logs/events.jsonl" | tail -n1)
  at() { date -d "$(grep "$1" "$2" | tail -n1 | sed 's/.*"ts":"\([^"]*\)".*/\1/')" +%s%3N; }
  echo $(($(at '"git.pushed"' "$dir/$1/logs/events.jsonl") - $(at '"run.finished"' "$dir/$1/logs/$id.jsonl")))
}
# One request, until its result is on the remote.
one() {
  local pushed
  pushed() { grep -c '"git.pushed"' "$dir/$1/logs/events.jsonl" || true; }
  local before
  before=$(pushed "$1")
  printf 'kind: noop\n' >"$dir/$1/requests/.one"
  mv "$dir/$1/requests/.one" "$dir/$1/requests/one-$2.yml"
  until [ "$(pushed "$1")" -gt "$before" ]; do sleep 0.02; done
  published "$1" >>"$dir/$1.ms"
}
median() { sort -n "$1" | awk '{ at[NR] = $1 } END { print at[int((NR + 1) / 2)] }'; }
# Milliseconds of `git status`, the least of ten.
status() {
  for _ in $(seq 10); do
    local begin
    begin=$(now)
    git -C "$dir/$1" status --porcelain >/dev/null
    echo $((($(now) - begin) / 10000))
  done | sort -n | head -n1
}

aged young $keep
aged old "$runs"
aged thousand 1000
printf 'keep_recent: 100000\n' >>"$DISPATCHER_CONFIG" # nothing moves while it is measured
start young
start old
for side in young old; do until [ -S "$(echo "$dir/run-$side"/*.sock)" ]; do sleep 0.1; done; done
for n in $(seq "$rounds"); do
  one young "$n"
  one old "$n"
done
awk -v runs="$runs" -v keep=$keep -v a="$(median "$dir/young.ms")" -v b="$(median "$dir/old.ms")" 'BEGIN {
  printf "record and push one run, median: %d ms with %d runs in history, %d ms with %d\nratio %.2f\n", a, keep, b, runs, b / a
}'
awk -v runs="$runs" -v a="$(status thousand)" -v b="$(status old)" 'BEGIN {
  printf "git status: %.2f ms with 1000 runs in history, %.2f ms with %d\nratio %.2f\n", a / 100, b / 100, runs, b / a
}'
