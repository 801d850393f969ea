#!/bin/sh
echo "found by its name"
