#!/bin/sh
echo "really acts"
