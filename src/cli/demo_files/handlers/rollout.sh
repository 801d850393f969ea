#!/bin/sh
# Shows: a handler that declares `dry_run: true` can be asked what it would do.
if [ -n "${DISPATCH_DRY_RUN:-}" ]; then
  echo "would roll out $PARAM_VERSION to 4 hosts"
  exit 0
fi
for host in web-1 web-2 web-3 web-4; do
  echo "$host now runs $PARAM_VERSION"
done
