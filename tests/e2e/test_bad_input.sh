#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Bad input of any kind: one clear line with place and remedy, the documented exit code, nothing lost.
set -u
. "$(dirname "$0")/lib.sh"
make_cluster 2000
before=$(sums '%')
printf '{"kind": "tenant.drop",\n "store": "x" "database": "acme"}\n' >"$top/broken"
expect 4 "JSON with a mistake says line and column" 'broken:2:[0-9]+' -- "$drover" plan "$top/broken"
job unknown '{"kind":"tenant.drop","store":"@","databse":"acme"}'
expect 4 "an unknown key, with the nearest one" 'databse.*database' -- "$drover" plan "$top/unknown"
job type '{"kind":"tenant.drop","store":"@","database":7}'
expect 4 "a wrong type" 'database.*string' -- "$drover" plan "$top/type"
job kind '{"kind":"tenant.dorp","store":"@","database":"acme"}'
expect 4 "an unknown kind lists the known ones" 'tenant.drop' -- "$drover" plan "$top/kind"
job missing '{"kind":"tenant.drop","store":"@"}'
expect 4 "a missing key" 'database' -- "$drover" plan "$top/missing"
job twice '{"kind":"tenant.drop","store":"@","database":"acme","database":"globex"}'
expect 4 "a key given twice" -- "$drover" plan "$top/twice"
job op '{"kind":"purge","store":"@","database":"acme","collection":"orders","filter":{"id":{"less":3}}}'
expect 4 "an unknown operator lists the known ones" 'less.*lt' -- "$drover" plan "$top/op"
expect 4 "no such job file" 'nothere' -- "$drover" plan "$top/nothere"
job url '{"kind":"tenant.drop","store":"oracle://x","database":"acme"}'
expect 4 "an unknown store lists the known ones" 'sqlite' -- "$drover" plan "$top/url"
job gone '{"kind":"tenant.drop","store":"sqlite:/nowhere/at/all.db","database":"acme"}'
expect 5 "a store that is not there" '/nowhere/at/all.db' -- "$drover" plan "$top/gone"
truth "and it was not made" [ ! -e /nowhere ]
job nodb '{"kind":"tenant.drop","store":"@","database":"nobody"}'
expect 11 "a database that is not there" 'nobody' -- "$drover" plan "$top/nodb"
echo 'this is no database, only text that is long enough to be one' >"$top/text.db"
job garbage "{\"kind\":\"tenant.drop\",\"store\":\"sqlite:$top/text.db\",\"database\":\"main\"}"
expect 7 "a store file that is no database" 'text.db' -- "$drover" plan "$top/garbage"
expect 2 "an unknown command, with the nearest one" 'status' -- "$drover" statsu
expect 2 "an unknown option" -- "$drover" status --jsno
expect 2 "no command at all" -- "$drover"
expect 11 "status without a data folder" -- "$drover" status
expect 11 "an operation that is not there" -- "$drover" status 7
job drop '{"kind":"tenant.drop","store":"@","database":"acme"}'
expect 0 "a sound submit" -- "$drover" submit "$top/drop" --yes
expect 11 "an operation that is not there" '99' -- "$drover" status 99
expect 2 "an operation number that is none" -- "$drover" pause seven

# Damage and trouble with drover's own files.
cp -r "$DROVER_DATA" "$top/keep"
restore_data() { chmod -R u+w "$DROVER_DATA"; rm -rf "$DROVER_DATA"; cp -r "$top/keep" "$DROVER_DATA"; }
sqlite3 "$DROVER_DATA/queue.db" 'PRAGMA user_version=999'
expect 7 "a data folder of a newer version" 'newer' -- "$drover" status
restore_data
rm -f "$DROVER_DATA"/queue.db*
echo 'not a queue at all, but some text of a fair length indeed' >"$DROVER_DATA/queue.db"
expect 7 "a queue that is no database" 'queue.db' -- "$drover" status
expect 7 "run on a queue that is no database" 'queue.db' -- "$drover" run 1 --yes
restore_data
rm -f "$DROVER_DATA"/queue.db*
sqlite3 "$DROVER_DATA/queue.db" 'CREATE TABLE theirs(x)'
expect 7 "a queue.db of another program" 'queue.db' -- "$drover" status
same "which is left alone" "$(sqlite3 "$DROVER_DATA/queue.db" .tables)" theirs
restore_data
if [ "$(id -u)" != 0 ]; then
    chmod -R a-w "$DROVER_DATA"
    expect 12 "a read-only data folder" "$DROVER_DATA" -- "$drover" run 1 --yes
    restore_data
fi
mkdir "$top/ro"
expect 12 "a data folder that cannot be made" -- "$drover" --data /proc/drover run "$top/drop" --yes
same "nothing was touched so far" "$(sums '%')" "$before"

# A full disk: the n-th write says so; the operation waits or ends with 12 and goes on later.
expect 0 "run after all that" -- "$drover" --quiet run 1 --yes
file=$(find "$DROVER_DATA/archive" -name '*.dra' | head -n 1)
cp "$file" "$top/segment"
dd if=/dev/zero of="$file" bs=1 seek=200 count=4 conv=notrunc 2>/dev/null
expect 7 "verify names the damaged segment" "$(basename "$file")" -- "$drover" archive verify 1
expect 9 "a rollback with a damaged segment ends blocked" -- "$drover" --quiet rollback 1 --yes
cp "$top/segment" "$file"
expect 0 "verify is content again" -- "$drover" archive verify 1
expect 0 "the quarantined step is put back" -- "$drover" quarantine retry 1
"$drover" --quiet rollback 1 --yes >/dev/null 2>&1
same "after which every row is back" "$(sums '%')" "$before"
finish
