#!/no/such/interpreter
# shellcheck shell=sh
echo never
