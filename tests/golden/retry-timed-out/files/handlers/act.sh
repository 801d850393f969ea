#!/bin/sh
echo "attempt $DISPATCH_ATTEMPT"
[ "$DISPATCH_ATTEMPT" -ge 2 ] || exec sleep 60
