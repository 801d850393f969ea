#!/bin/sh
. "$(dirname "$0")/lib.sh"
echo "hello from $DISPATCH_KIND"
finish 0
