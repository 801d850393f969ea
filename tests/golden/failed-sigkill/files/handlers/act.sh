#!/bin/sh
echo 'going down'
kill -9 $$
