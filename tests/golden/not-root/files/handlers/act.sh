#!/bin/sh
[ "$(id -u)" -ne 0 ] && echo "not root"
grep -E '^(NoNewPrivs|CapEff|CapAmb):' /proc/self/status
touch mine && echo "may write to its work folder"
touch /etc/dispatcher-was-here 2>/dev/null || echo "may not write to /etc"
