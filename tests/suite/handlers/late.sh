#!/bin/sh
. "$(dirname "$0")/lib.sh"
sleep 600
