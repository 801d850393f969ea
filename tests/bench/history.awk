# A dispatch repository's history as `git fast-import` reads it: `n` runs, one commit each on `main`, of which the newest
# `keep` lie there and all others, 500 to a commit, in the archive, 500 to a day.
# Usage: awk -v n=100000 -v keep=500 -v tip=COMMIT -v now=SECONDS -f history.awk | git fast-import
function data(text) { printf "data %d\n%s\n", length(text), text }
function uuid(i) {
  ms = (now - (n - i) * 170) * 1000
  high = int(ms / 65536)
  return sprintf("%08x-%04x-7000-8000-%012x", high, ms % 65536, i)
}
function stamp(i) { return strftime("%Y-%m-%dT%H:%M:%S.000Z", now - (n - i) * 170, 1) }
function files(prefix, logs, i) {
  printf "M 100644 :%d %sstatus.json\nM 100644 :1 %srequest.yml\n", i + 10, prefix, prefix
  printf "M 100644 :2 %s%s.log\nM 100644 :3 %s%s.jsonl\n", logs, id[i], logs, id[i]
}
function commit(ref, at, subject, parent) {
  printf "commit refs/heads/%s\ncommitter dispatcher <dispatcher@bench> %d +0000\n", ref, at
  data(subject)
  if (parent != "") print "from " parent
}
BEGIN {
  print "blob\nmark :1"; data("kind: noop\n")
  print "blob\nmark :2"; data("a line of a log\n")
  print "blob\nmark :3"; data("{\"v\":1}\n")
  for (i = 1; i <= n; i++) {
    id[i] = uuid(i)
    day[i] = strftime("%Y/%m/%d", now - (n - i) * 170, 1)
    printf "blob\nmark :%d\n", i + 10
    data(sprintf("{\"version\":1,\"id\":\"%s\",\"request\":\"%d.yml\",\"kind\":\"noop\",\"resource\":\"r\",\"status\":\"succeeded\",\"rc\":0,\"signal\":null,\"reason\":null,\"attempt\":1,\"queued_at\":\"%s\",\"started_at\":\"%s\",\"finished_at\":\"%s\",\"duration_ms\":5,\"host\":\"bench\",\"requested_by\":{\"name\":\"bench\",\"email\":null,\"commit\":null,\"signer\":null},\"handler\":null,\"result\":null,\"error\":null,\"sandbox\":null,\"usage\":null,\"log\":\"logs/%s.log\",\"withheld\":[]}\n", id[i], i, stamp(i), stamp(i), stamp(i), id[i]))
  }
  for (i = 1; i <= n; i++) {
    commit("main", now - (n - i) * 170, "executor: " id[i] " rc=0", i == 1 ? tip : "")
    files("processed/" id[i] "/", "logs/", i)
    old = i - keep
    if (old > 0) printf "D processed/%s\nD logs/%s.log\nD logs/%s.jsonl\n", id[old], id[old], id[old]
  }
  for (i = 1; i <= n - keep; i++) {
    if (i % 500 == 1) commit("dispatcher/archive", now - (n - i) * 170, "archive: 500 runs", "")
    files(day[i] "/" id[i] "/", day[i] "/" id[i] "/", i)
  }
}
