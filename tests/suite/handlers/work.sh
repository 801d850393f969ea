#!/bin/sh
. "$(dirname "$0")/lib.sh"
sleep "$PARAM_FOR" &
wait
finish 0
