#!/bin/sh
set -eu
umask 022
# A site and two releases in the work folder, so that the case leaves nothing behind.
mkdir site one two
echo one >one/VERSION
echo two >two/VERSION
deploy() {
  PARAM_ROOT=$PWD/site PARAM_SOURCE=$PWD/$1 PARAM_REF=$1 PARAM_HEALTH_FILE=$2 PARAM_HEALTH_TRIES=1 \
    "$(dirname "$0")/deploy.sh"
}
deploy one VERSION
rc=0
deploy two MISSING || rc=$?
cat site/current/VERSION
exit "$rc"
