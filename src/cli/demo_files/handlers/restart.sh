#!/bin/sh
# Shows: one run at a time per resource. Both requests name the same host.
echo "stopping the service on $PARAM_HOST"
sleep 1
echo "starting the service on $PARAM_HOST"
sleep 1
echo "$PARAM_HOST is up"
