#!/bin/sh
setsid sleep 600 &
echo "done, and left something behind"
