#!/bin/sh
echo "$DISPATCH_RESOURCE"
