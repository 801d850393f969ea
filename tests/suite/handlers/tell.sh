#!/bin/sh
# Does what it is asked for, with its secrets at hand.
eval "$PARAM_SH"
