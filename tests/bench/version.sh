#!/usr/bin/env bash
# How long `--version` takes: the median and the worst of 100.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=world.sh
. "$(dirname "$0")/world.sh"
for _ in $(seq 100); do
  begin=$(now)
  "$bin" --version >/dev/null
  echo $((($(now) - begin) / 1000))
done | sort -n | awk '{ at[NR] = $1 } END { printf "--version: median %.1f ms, worst %.1f ms\n", at[50] / 1000, at[NR] / 1000 }'
