#!/bin/sh
set -eu
# The folders lie in the work folder, so that the case leaves nothing behind.
umask 022
mkdir source target source/etc
backup() {
  printf '{"name": "app", "source": "%s", "target": "%s", "keep": 2}' "$PWD/source" "$PWD/target" >params.json
  DISPATCH_PARAMS=$PWD/params.json DISPATCH_RESULT=$PWD/result.json "$(dirname "$0")/backup.py"
}
echo 'port = 80' >source/etc/app.conf
backup
backup
for port in 81 82; do
  echo "port = $port" >source/etc/app.conf
  backup
done
cd target
sha256sum --check ./*.sha256
tar -tzf "$(find . -name '*.tar.gz' | sort | tail -n 1)"
# The digest of the archive depends on the machine's zlib, that of the content does not.
sed 's/"sha256": "[0-9a-f]*", //' ../result.json >"$DISPATCH_RESULT"
