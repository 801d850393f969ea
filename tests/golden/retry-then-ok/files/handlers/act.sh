#!/bin/sh
echo "attempt $DISPATCH_ATTEMPT"
[ "$DISPATCH_ATTEMPT" -ge 2 ] || exit 75
