#!/bin/sh
# Shows: exit 75 means "not yet"; the router asks again, and the lock is free in between.
if [ "$DISPATCH_ATTEMPT" -lt 2 ]; then
  echo "attempt $DISPATCH_ATTEMPT: the server is busy"
  exit 75
fi
echo "attempt $DISPATCH_ATTEMPT: 42 items"
echo '{"items": 42}' >"$DISPATCH_RESULT"
