#!/bin/sh
# The smallest handler: what it prints goes to the log, its exit code is the run's.
set -eu
echo "hello, ${PARAM_NAME:-world}"
printf '{"greeted": "%s"}\n' "${PARAM_NAME:-world}" >"$DISPATCH_RESULT"
