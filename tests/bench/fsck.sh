#!/usr/bin/env bash
# How long `fsck` takes, and how much memory, on a history of many runs: each asked for by one commit and recorded by
# another, all but the newest 500 in the archive.
# Usage: tests/bench/fsck.sh [PROGRAM] [RUNS], from the top folder, after `cargo build --release`.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=world.sh
. "$(dirname "$0")/world.sh"
runs=${2:-100000}
world history 0
cd "$dir/history"

# A stream for `git fast-import`. Only what git and `fsck` look at is like the real thing.
stream() {
  awk -v runs="$runs" -v base="$(git rev-parse HEAD)" '
    function id(n) { return sprintf("0197e0c2-%04x-7000-8000-%012x", int(n / 1000), n) }
    function day(n) { return sprintf("2026/%02d/%02d", int(n / 9000) % 12 + 1, int(n / 300) % 28 + 1) }
    function data(text) { printf "data %d\n%s\n", length(text), text }
    function begin(ref, subject) {
      print "commit " ref
      print "committer bench <bench@example.org> " 1760000000 + ++clock " +0000"
      data(subject)
      if (!(ref in seen)) { seen[ref] = 1; if (ref == main) print "from " base }
    }
    function file(path, text) { print "M 100644 inline " path; data(text) }
    function request(n) { return "kind: noop\nresource: r" n "\n" }
    function status(n) {
      return "{\n  \"version\": 1,\n  \"id\": \"" id(n) "\",\n  \"request\": \"" n ".yml\",\n  \"kind\": \"noop\",\n" \
        "  \"resource\": \"r" n "\",\n  \"status\": \"succeeded\",\n  \"rc\": 0,\n  \"signal\": null,\n  \"reason\": null,\n" \
        "  \"attempt\": 1,\n  \"finished_at\": \"2026-11-24T00:00:00.000Z\",\n  \"host\": \"bench\"\n}\n"
    }
    function result(n, folder, stem) {
      file(folder "/request.yml", request(n))
      file(folder "/status.json", status(n))
      file(stem ".log", "run " n "\n")
      file(stem ".jsonl", "{\"id\":\"" id(n) "\"}\n")
    }
    BEGIN {
      main = "refs/heads/main"
      archive = "refs/heads/dispatcher/archive"
      for (n = 1; n <= runs; n++) {
        begin(main, "Ask")
        file("requests/" n ".yml", request(n))
        begin(main, "executor: " id(n) " rc=0")
        print "D requests/" n ".yml"
        result(n, "processed/" id(n), "logs/" id(n))
        if (n % 100 == 0 && n > 500) {
          begin(archive, "archive: 100 runs")
          for (old = n - 599; old <= n - 500; old++) result(old, day(old) "/" id(old), day(old) "/" id(old) "/" id(old))
          begin(main, "archive: 100 runs")
          for (old = n - 599; old <= n - 500; old++) {
            print "D processed/" id(old)
            print "D logs/" id(old) ".log"
            print "D logs/" id(old) ".jsonl"
          }
        }
      }
    }'
}
stream | git fast-import --quiet --force
git reset -q --hard
begin=$(now)
# The largest size that it had, in KiB.
peak=$({ command time -f %M "$bin" fsck >"$dir/said"; } 2>&1) || { cat "$dir/said"; exit 1; }
took=$(($(now) - begin))
cat "$dir/said"
awk -v t="$took" -v kb="$peak" -v n="$(git rev-list --count HEAD)" \
  'BEGIN { printf "fsck: %.1f s, %.0f MiB at most, %d commits, %.0f us per commit\n", t / 1e9, kb / 1024, n, t / 1e3 / n }'
