#!/bin/sh
. "$(dirname "$0")/lib.sh"
[ "$DISPATCH_ATTEMPT" -ge "$PARAM_AT" ] || finish 75
finish 0
