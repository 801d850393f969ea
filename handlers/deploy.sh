#!/usr/bin/env bash
# Roll out one release and keep it only if it is healthy.
#
#   ROOT/releases/<ref>/   complete releases; a ref's bytes never change once they are there
#   ROOT/current           -> releases/<ref>, flipped by rename: there is no moment without a release
#   ROOT/.pending          what to go back to while a new release is on trial; gone once that is decided
#
# Safe to run again at any time, also after it was killed: what is half made is swept, a trial that was cut off is
# resumed, and a release that is live already is only checked again. ROOT belongs to the handlers' user and lies in a
# `write` path of the router; whatever serves ROOT/current needs to read it only.
#
# Exit 0: live and healthy. 1: ill, and the release before it is live again. 65: the params cannot be used.
set -euo pipefail
umask 022
LC_ALL=C

say() { printf '%s\n' "$*"; }
die() { local code=$1; shift; printf 'deploy: %s\n' "$*" >&2; exit "$code"; }
step() { [[ -z ${DISPATCH_PROGRESS:-} ]] || printf '%s\n' "$1" >>"$DISPATCH_PROGRESS"; }

root=${PARAM_ROOT:-} source=${PARAM_SOURCE:-} ref=${PARAM_REF:-}
keep=${PARAM_KEEP:-5} tries=${PARAM_HEALTH_TRIES:-5}
health_command=${PARAM_HEALTH_COMMAND:-} health_file=${PARAM_HEALTH_FILE:-} health_url=${PARAM_HEALTH_URL:-}

# The schema has said this; a handler that removes folders does not lean on it alone.
name='^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'
[[ $ref =~ $name ]] || die 65 "\`ref\` must be 1 to 64 of A-Z a-z 0-9 . _ -, first a letter or digit"
[[ $root == /* && $source == /* ]] || die 65 "\`root\` and \`source\` must be absolute paths"
[[ $keep =~ ^[1-9][0-9]{0,2}$ ]] || die 65 "\`keep\` must be a number from 1 to 999"
[[ $tries =~ ^[1-9][0-9]{0,2}$ ]] || die 65 "\`health_tries\` must be a number from 1 to 999"
for inside in "$health_command" "$health_file"; do
  [[ -z $inside || ( $inside =~ ^[A-Za-z0-9_][A-Za-z0-9._/-]*$ && /$inside/ != */../* ) ]] ||
    die 65 "the health check must be a path inside the release"
done
url='^http://([A-Za-z0-9._-]+)(:([0-9]{1,5}))?(/[!-~]*)?$'
[[ -z $health_url || $health_url =~ $url ]] || die 65 "\`health_url\` must be a plain http:// URL"
[[ -d $source || -f $source ]] || die 65 "\`source\`: no such folder or archive, or no permission: ${source@Q}"
[[ -d $root && -w $root && -x $root ]] || die 65 "\`root\`: not a folder that $(id -un) may write to: ${root@Q}"
cd -- "$root"

live() { # the ref that is live, or nothing
  local to
  to=$(readlink -- current 2>/dev/null) || return 0
  [[ $to == releases/* && -d $to ]] && printf '%s' "${to#releases/}"
  return 0
}

flip() { # make a release live; a symlink cannot be replaced in place, but a rename can
  rm -rf -- .current.new
  ln -s -- "releases/$1" .current.new
  mv -fT -- .current.new current
}

pack() { # one stream for one content, whoever owns it and whenever it was made
  tar -C "$1" --sort=name --format=gnu --mtime=@0 --owner=0 --group=0 --numeric-owner -cf - .
}

unpack_source() { # into $1
  mkdir -- "$1"
  if [[ -d $source ]]; then
    tar -C "$source" -cf - . | tar -C "$1" --no-same-owner -xf -
  else
    tar -C "$1" --no-same-owner -xzf "$source" || die 65 "\`source\` is not a .tar.gz: ${source@Q}"
  fi
}

answers() { # does $health_url answer with 2xx? bash alone, so that curl need not be there
  [[ $health_url =~ $url ]]
  local host=${BASH_REMATCH[1]} port=${BASH_REMATCH[3]:-80} path=${BASH_REMATCH[4]:-/}
  # shellcheck disable=SC2016  # expanded by the inner shell, from its arguments
  timeout 5 bash -c 'exec 3<>"/dev/tcp/$1/$2" || exit
    printf "GET %s HTTP/1.0\r\nHost: %s\r\nConnection: close\r\n\r\n" "$3" "$1" >&3
    read -r _ status _ <&3 && [[ $status == 2?? ]]' - "$host" "$port" "$path" 2>/dev/null
}

healthy() {
  local release=$PWD/releases/$1
  [[ -z $health_file || -s $release/$health_file ]] || return 1
  [[ -z $health_url ]] || answers || return 1
  [[ -z $health_command ]] || ( cd -- "$release" && exec "./$health_command" ) || return 1
}

on_trial() { # asks until it is healthy or the tries are used up
  local try
  for ((try = 1; try <= tries; try++)); do
    if healthy "$ref"; then say "healthy at try $try"; return 0; fi
    say "not healthy at try $try of $tries"
    ((try == tries)) || sleep 1
  done
  return 1
}

go_back() { # end the trial: what was live before is live again
  local to
  to=$(<.pending)
  if [[ -n $to ]]; then
    flip "$to"
    say "rolled back to $to"
  else
    rm -f -- current
    say "nothing to go back to: $ref is taken off"
  fi
  rm -f -- .pending
  # What this very run brought goes again, so that mended content may come under the same ref.
  [[ $fresh == false || $ref == "$to" ]] || rm -rf -- "releases/$ref"
}

report() { # changed rolled_back; every value below is of a closed set of characters
  [[ -n ${DISPATCH_RESULT:-} ]] || return 0
  local now
  now=$(live)
  printf '{"ref": "%s", "live": %s, "previous": %s, "changed": %s, "rolled_back": %s, "dry_run": %s, "sha256": "%s"}\n' \
    "$ref" "$(quoted "$now")" "$(quoted "$previous")" "$1" "$2" "$dry_run" "$sha256" >"$DISPATCH_RESULT"
}
quoted() { if [[ -n $1 ]]; then printf '"%s"' "$1"; else printf null; fi; }

# What was cut off: half a release is swept; half a trial says what to go back to, whichever ref is asked for now.
previous=$(live)
if [[ -f .pending ]]; then previous=$(<.pending); fi
[[ -z $previous || ( $previous =~ $name && -d releases/$previous ) ]] || previous=
[[ -d $source ]] && wanted=folder || wanted=archive
fresh=false dry_run=false
[[ -z ${DISPATCH_DRY_RUN:-} ]] || dry_run=true

step "1/4 unpack"
if [[ $dry_run == true ]]; then
  work=$(mktemp -d)
  unpack_source "$work/new"
  sha256=$(pack "$work/new" | sha256sum); sha256=${sha256%% *}
  say "dry run: would release $ref from the $wanted ${source@Q} into ${root@Q}"
  if [[ $(live) == "$ref" ]]; then say "dry run: $ref is live already"; else say "dry run: live is $(live | grep . || echo nothing)"; fi
  rm -rf -- "$work"
  report false false
  exit 0
fi
mkdir -p -- releases
rm -rf -- releases/.new .pending.new .current.new
unpack_source releases/.new
sha256=$(pack releases/.new | sha256sum); sha256=${sha256%% *}
if [[ -d releases/$ref ]]; then
  there=$(pack "releases/$ref" | sha256sum)
  rm -rf -- releases/.new
  [[ ${there%% *} == "$sha256" ]] || die 65 "release $ref exists with other content: give the new content a new ref"
  say "release $ref is there already"
else
  # Durable before it can be seen: after a power cut a release is whole or absent.
  sync -f releases/.new
  mv -T -- releases/.new "releases/$ref"
  fresh=true
  say "unpacked $ref from the $wanted ${source@Q}"
fi
touch -- "releases/$ref"

step "2/4 flip"
if [[ $(live) == "$ref" && ! -f .pending ]]; then
  say "$ref is live already"
  step "3/4 check"
  on_trial || { report false false; die 1 "$ref is ill; it was healthy when it was deployed, so it stays"; }
  changed=false
else
  printf '%s\n' "$previous" >.pending.new
  mv -fT -- .pending.new .pending
  # Cancelled, timed out or failed: the trial ends with the release that was good.
  trap 'go_back' EXIT
  trap 'exit 143' TERM INT
  flip "$ref"
  say "$ref is live, on trial"
  step "3/4 check"
  if ! on_trial; then
    trap - EXIT
    go_back
    report false true
    die 1 "$ref is ill"
  fi
  rm -f -- .pending
  trap - EXIT
  changed=true
fi

step "4/4 tidy"
kept=1
[[ -z $previous || $previous == "$ref" || $keep == 1 ]] || kept=2
while read -r _ old; do
  [[ $old =~ $name && $old != "$ref" ]] || continue
  [[ $old != "$previous" || $keep == 1 ]] || continue
  if ((kept < keep)); then
    kept=$((kept + 1))
    continue
  fi
  rm -rf -- "releases/$old"
  say "removed the old release $old"
done < <(find releases -mindepth 1 -maxdepth 1 -type d -printf '%T@ %f\n' | sort -rn)
report "$changed" false
say "$ref is live"
