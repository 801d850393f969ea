#!/bin/sh
echo 'answer: 42' >"$DISPATCH_RESULT"
exit 5
