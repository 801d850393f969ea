#!/bin/sh
for n in 1 2 3 4 5; do
  echo "out $n"
  echo "err $n" >&2
done
