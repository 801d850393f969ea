#!/bin/sh
printf '{"text": "%s"}' "$(head -c 70000 /dev/zero | tr '\0' x)" >"$DISPATCH_RESULT"
