#!/bin/sh
# An ignored signal stays ignored over exec.
trap '' TERM
echo 'TERM? not now'
exec sleep 60
