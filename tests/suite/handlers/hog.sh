#!/bin/sh
. "$(dirname "$0")/lib.sh"
head -c 400M /dev/zero | tail
sleep 600
