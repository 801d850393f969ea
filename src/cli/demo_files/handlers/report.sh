#!/bin/sh
# Shows: steps on the dashboard, colours in the log, and a result in the status.
set -eu
pages=${PARAM_PAGES:-3}
page=1
while [ "$page" -le "$pages" ]; do
  echo "$page/$pages page $page" >>"$DISPATCH_PROGRESS"
  printf 'page %d of %s \033[32mdone\033[0m\n' "$page" "$PARAM_MONTH"
  sleep 0.4
  page=$((page + 1))
done
printf '{"month": "%s", "pages": %d}\n' "$PARAM_MONTH" "$pages" >"$DISPATCH_RESULT"
