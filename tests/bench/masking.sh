#!/usr/bin/env bash
# What masking costs: the same handler's output without secrets and with twenty, in one run, and the daemon's memory
# meanwhile. Usage: tests/bench/masking.sh [PROGRAM] [MEGABYTES]
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=world.sh
. "$(dirname "$0")/world.sh"
megabytes=${2:-1024}
world mask 0
cd "$dir/mask"
rm -f requests/*.yml
# Lines as builds print them; none is a secret.
cat >handlers/noop.sh <<SH
#!/bin/sh
yes "12:04:33 compiled module 17 of 99 (src/journal/streams.rs) in 12 ms; 0 warnings, cache hit 8f3a91c2d4" | head -c ${megabytes}M
SH
git commit -q -a -m Talk && git push -q origin HEAD:main
plain=$(cat "$DISPATCHER_CONFIG")
secrets() {
  echo "secrets:"
  for n in $(seq 1 20); do
    head -c 30 /dev/urandom | base64 >"$dir/secret$n"
    chmod 600 "$dir/secret$n"
    echo "  S$n: {file: $dir/secret$n, kinds: [other]}"
  done
}
# Runs once with the configuration of $2; says how long, and the most memory that the daemon had.
one() {
  echo "$2" >"$DISPATCHER_CONFIG"
  "$bin" --no-tui >"$dir/out" 2>&1 &
  local daemon=$! start
  until "$bin" status >/dev/null 2>&1; do sleep 0.05; done
  start=$(now)
  printf 'kind: noop\nresource: r\n' >"requests/$1.yml"
  until "$bin" wait "$1.yml" >/dev/null 2>&1; do sleep 0.02; done
  echo "$((($(now) - start) / 1000000)) $(awk '/^VmHWM/ { print $2 }' /proc/$daemon/status)"
  kill "$daemon"
  wait "$daemon" || true
}
with=$plain$'\n'$(secrets)
for round in 1 2 3; do
  read -r bare rss_bare < <(one "bare$round" "$plain")
  read -r masked rss_masked < <(one "masked$round" "$with")
  awk -v mb="$megabytes" -v b="$bare" -v m="$masked" -v rb="$rss_bare" -v rm="$rss_masked" 'BEGIN {
    printf "%d MiB of output: %.0f MiB/s, with 20 secrets %.0f MiB/s (%.0f %%); daemon at most %.1f and %.1f MiB\n",
      mb, mb / b * 1000, mb / m * 1000, b / m * 100, rb / 1024, rm / 1024 }'
done
