#!/bin/sh
# Shows: any exit code but 0 and 75 is a failure, and the code is kept.
echo "checking the tables before schema ${PARAM_TO:-2}"
echo "table orders: 2 rows without a customer, nothing was changed" >&2
exit 3
