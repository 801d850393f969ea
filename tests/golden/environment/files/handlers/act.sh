#!/bin/sh
# What the shell sets by itself is not the dispatcher's.
env -u PWD -u OLDPWD -u SHLVL -u _ | sed -n 's/^\([A-Z][A-Z_0-9]*\)=.*/\1/p' | sort
printf '[%s]\n' "$PARAM_TEXT" "$PARAM_NUMBER" "$PARAM_YES" "$PARAM_WITH_DASH" "${PARAM_NOTHING-unset}" "$TIER"
# shellcheck disable=SC2012  # names of descriptors are numbers
ls -l /proc/self/fd | sed -n 's/.* \([0-9]*\) -> .*/fd \1/p' | grep -v 'fd 3'
test "$(cat "$1")" = "$(cat "$DISPATCH_REQUEST")" && echo "argv[1] is the request"
cat "$DISPATCH_PARAMS"
