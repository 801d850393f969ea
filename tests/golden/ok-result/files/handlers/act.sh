#!/bin/sh
echo "1/2 measure" >>"$DISPATCH_PROGRESS"
echo "2/2 report" >>"$DISPATCH_PROGRESS"
echo '{"answer": 42, "list": [1, 2.5, "ü"], "nothing": null}' >"$DISPATCH_RESULT"
