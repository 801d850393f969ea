#!/bin/sh
echo 'waiting'
exec sleep 60
