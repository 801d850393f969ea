# shellcheck shell=bash
# Sourced by the benches: a remote, a clone with a handler that does nothing, and a closed place for local state.
# Sets: bin, dir. Removes everything at the end.
# shellcheck disable=SC2034 # the benches use it
bin=$(realpath "${1:-target/release/dispatcher}")
dir=$(mktemp -d)
chmod 711 "$dir"
trap 'rm -rf "$dir"' EXIT
export HOME=$dir GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=bench GIT_AUTHOR_EMAIL=bench@example.org
export GIT_COMMITTER_NAME=bench GIT_COMMITTER_EMAIL=bench@example.org
export STATE_DIRECTORY=$dir/state RUNTIME_DIRECTORY=$dir/run DISPATCHER_CONFIG=$dir/config.yml
printf 'lock_dir: %s/lock\nmin_free: 0\n' "$dir" >"$DISPATCHER_CONFIG"

# A remote and a clone of it, both named after $1, with $2 requests in the inbox.
world() {
  git init -q --bare -b main "$dir/$1.git"
  git clone -q "$dir/$1.git" "$dir/$1" 2>/dev/null
  mkdir "$dir/$1"/{requests,processed,logs,handlers,schema}
  touch "$dir/$1"/{requests,processed,logs}/.gitkeep
  printf '#!/bin/sh\nexit 0\n' >"$dir/$1/handlers/noop.sh"
  chmod 755 "$dir/$1/handlers/noop.sh"
  printf 'noop: {type: object}\n' >"$dir/$1/schema/requests.yml"
  printf 'dispatcher.log*\nevents.jsonl*\n' >"$dir/$1/logs/.gitignore"
  for n in $(seq -w 1 "$2"); do printf 'kind: noop\nresource: r%s\n' "$n" >"$dir/$1/requests/$n.yml"; done
  git -C "$dir/$1" add -A
  git -C "$dir/$1" commit -q -m Begin
  git -C "$dir/$1" push -q origin HEAD:main
}

now() { date +%s%N; }
