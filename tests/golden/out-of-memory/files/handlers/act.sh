#!/bin/sh
# One buffer of 300 MiB, filled again and again.
exec dd if=/dev/zero of=/dev/null bs=300M count=100 2>/dev/null
