#!/usr/bin/env bash
# What recording costs per run, by how many runs share a commit: everything is synced. The pushing is not in it.
# Usage: tests/bench/batch.sh [FOLDER]   on whose file system the repository lies (default: a temporary folder)
set -euo pipefail
cd "$(dirname "$0")/../.."
export DISPATCHER_BENCH_AT=${1:-$(mktemp -d)}
[ $# -gt 0 ] || trap 'rm -rf "$DISPATCHER_BENCH_AT"' EXIT
cargo test --release --locked --lib -- --exact repo::tests::durable::what_a_batch_costs --nocapture 2>/dev/null | grep '^batch'
