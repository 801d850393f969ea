#!/bin/sh
echo "attempt $DISPATCH_ATTEMPT"
exit 4
