#!/usr/bin/env bash
# The smallest handler: what it prints is the log, and exit 0 is success.
echo "Hello, ${PARAM_NAME:-world}!"
