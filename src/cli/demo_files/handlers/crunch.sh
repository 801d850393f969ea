#!/bin/sh
# Shows: the memory box. One buffer of 300 MiB, where 64 are allowed.
echo "reading everything at once"
exec dd if=/dev/zero of=/dev/null bs=300M count=100 2>/dev/null
