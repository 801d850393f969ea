# Read by every handler: says that the run began, and holds a lock of its own, so that an overlap shows.
exec 9<>"$MARKS/$DISPATCH_RESOURCE.held"
flock -n 9 || echo "$DISPATCH_RESOURCE $DISPATCH_ID" >>"$MARKS/overlaps"
echo "start $DISPATCH_ID $DISPATCH_ATTEMPT" >>"$MARKS/$DISPATCH_RESOURCE.runs"
finish() {
  echo "end $DISPATCH_ID $DISPATCH_ATTEMPT" >>"$MARKS/$DISPATCH_RESOURCE.runs"
  exit "$1"
}
