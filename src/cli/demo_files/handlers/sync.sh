#!/bin/sh
# Shows: the time box. TERM is ignored (also over exec), so everything is killed after the grace.
trap '' TERM
echo "waiting for a server that never answers"
exec sleep 60
