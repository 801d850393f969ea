#!/usr/bin/env bash
# From the webhook of a push to the start of its handler, beside a bare `git fetch` of the same remote: the medians of
# both and their difference, over a path and over ssh (an sshd of the bench's own, on loopback).
# Usage: tests/bench/webhook.sh [PROGRAM] [ROUNDS], from the top folder, after `cargo build --release`.
# Needs curl, openssl, ssh-keygen and sshd.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=world.sh
. "$(dirname "$0")/world.sh"
rounds=${2:-30}
secret=$(openssl rand -hex 32)
(umask 077 && echo "$secret" >"$dir/secret")
printf 'lock_dir: %s/lock\nmin_free: 0\nfetch_interval: 1h\nlisten: 127.0.0.1:0\nwebhook_secret_file: %s/secret\n' \
  "$dir" "$dir" >"$DISPATCHER_CONFIG"
mkdir -m 777 "$dir/marks"
daemon='' sshd=''
stop() {
  [ -z "$daemon" ] || { kill "$daemon" && wait "$daemon" || true; } 2>/dev/null
  daemon=''
}
trap 'stop; [ -z "$sshd" ] || kill "$sshd"; rm -rf "$dir"' EXIT

# An sshd that lets one key in, for git alone.
serve() {
  local server=$dir/sshd
  port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  mkdir "$server"
  for key in host user; do ssh-keygen -q -t ed25519 -N '' -C "$key" -f "$server/$key"; done
  echo "command=\"git-shell -c \\\"\$SSH_ORIGINAL_COMMAND\\\"\",restrict $(cat "$server/user.pub")" >"$server/keys"
  echo "[127.0.0.1]:$port $(cut -d' ' -f1,2 "$server/host.pub")" >"$server/known"
  printf '%s\n' "ListenAddress 127.0.0.1" "Port $port" "HostKey $server/host" "PidFile $server/pid" \
    "AuthorizedKeysFile $server/keys" "StrictModes no" "PasswordAuthentication no" "KbdInteractiveAuthentication no" \
    "UsePAM no" "PermitRootLogin prohibit-password" "UseDNS no" >"$server/config"
  [ "$(id -u)" != 0 ] || mkdir -p /run/sshd
  "$(command -v sshd || echo /usr/sbin/sshd)" -f "$server/config" -E "$server/log"
  until [ -s "$server/pid" ]; do sleep 0.05; done
  sshd=$(cat "$server/pid")
  export GIT_SSH_COMMAND="ssh -F none -i $server/user -o IdentitiesOnly=yes -o UserKnownHostsFile=$server/known -o BatchMode=yes"
}

median() { sort -n | awk '{ at[NR] = $1 } END { print at[int((NR + 1) / 2)] }'; }

# $1: the name of the world; $2: how the daemon and the bare fetch reach its remote.
measure() {
  local world=$dir/$1 url=$2 address tip body signature begin started
  git -C "$world" remote set-url origin "$url"
  git clone -q "$dir/$1.git" "$world-ana" 2>/dev/null
  git clone -q "$url" "$world-bare"
  "$bin" -C "$world" --no-tui >"$dir/$1.out" 2>&1 &
  daemon=$!
  until "$bin" -C "$world" fetch >/dev/null 2>&1; do sleep 0.1; done
  address=$("$bin" -C "$world" status --json | sed 's/.*"listen":"\([^"]*\)".*/\1/')
  : >"$dir/$1.hook"
  : >"$dir/$1.fetch"
  for n in $(seq "$rounds"); do
    git -C "$world-ana" pull -q --ff-only
    printf 'kind: start\nresource: r%s\nparams: {mark: %s/marks/%s-%s}\n' "$n" "$dir" "$1" "$n" >"$world-ana/requests/$n.yml"
    git -C "$world-ana" add -A
    git -C "$world-ana" commit -q -m Ask
    git -C "$world-ana" push -q
    tip=$(git -C "$world-ana" rev-parse HEAD)
    # A pipe: whoever looks again and again takes processor time from what is measured.
    mkfifo -m 666 "$dir/marks/$1-$n"
    exec 9<>"$dir/marks/$1-$n"
    body="{\"ref\":\"refs/heads/main\",\"after\":\"$tip\"}"
    signature=$(printf %s "$body" | openssl dgst -sha256 -hmac "$secret" | sed 's/.*= //')
    begin=$(now)
    curl -sS -f -o /dev/null -H "X-GitHub-Event: push" -H "X-Hub-Signature-256: sha256=$signature" -d "$body" \
      "http://$address/hooks/push"
    read -r -t 120 started <&9
    echo $((started - begin)) >>"$dir/$1.hook"
    # The result is recorded and pushed: nothing else goes on while the bare fetch is measured.
    "$bin" -C "$world" wait "$n.yml" >/dev/null
    until [ "$("$bin" -C "$world" status --json | grep -c '"unpushed":0,"push":"ok"')" = 1 ]; do sleep 0.05; done
    begin=$(now)
    git -C "$world-bare" fetch -q
    echo $(($(now) - begin)) >>"$dir/$1.fetch"
  done
  stop
  awk -v name="$1" -v n="$rounds" -v hook="$(median <"$dir/$1.hook")" -v fetch="$(median <"$dir/$1.fetch")" 'BEGIN {
    printf "%-5s webhook to handler start %6.1f ms, bare git fetch %6.1f ms, difference %6.1f ms (p50 of %d)\n",
      name, hook / 1e6, fetch / 1e6, (hook - fetch) / 1e6, n
  }'
}

for name in path ssh; do
  world "$name" 0
  printf '#!/bin/sh\ndate +%%s%%N >"$PARAM_MARK"\n' >"$dir/$name/handlers/start.sh"
  chmod 755 "$dir/$name/handlers/start.sh"
  printf 'start: {type: object, required: [mark], properties: {mark: {type: string}}}\n' >>"$dir/$name/schema/requests.yml"
  printf 'version: 1\nhandlers:\n  start: {run: start.sh, write: [%s/marks]}\n' "$dir" >"$dir/$name/handlers/index.yml"
  git -C "$dir/$name" add -A
  git -C "$dir/$name" commit -q -m "Handler"
  git -C "$dir/$name" push -q origin HEAD:main
done
measure path "$dir/path.git"
serve
measure ssh "ssh://$(id -un)@127.0.0.1:$port$dir/ssh.git"
