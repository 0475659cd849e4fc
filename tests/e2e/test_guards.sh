#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Guards: whatever would erase too much is refused with the reason, before anything is touched.
set -u
. "$(dirname "$0")/lib.sh"
make_cluster 2000
before=$(sums '%')
job empty '{"kind":"purge","store":"@","database":"acme","collection":"orders","filter":{}}'
expect 3 "an empty filter" 'empty filter' -- "$drover" plan "$top/empty"
job catch '{"kind":"purge","store":"@","database":"acme","collection":"orders","filter":{"id":{"is_null":false}}}'
expect 3 "a catch-all" -- "$drover" plan "$top/catch"
job every '{"kind":"purge","store":"@","database":"acme","collection":"orders","allow_scan":true,"filter":{"id":{"gt":-5}}}'
expect 3 "a filter that matches every row" 'every row' -- "$drover" run "$top/every" --yes
job protect '{"kind":"tenant.drop","store":"@","database":"admin"}'
expect 3 "a protected name" 'protected' -- "$drover" run "$top/protect" --yes
mkdir -p "$top/conf"
echo '{"protect": ["acm*"]}' >"$top/conf/drover.json"
job drop '{"kind":"tenant.drop","store":"@","database":"acme"}'
expect 3 "a name protected by the configuration" 'protected' -- \
    "$drover" --config "$top/conf/drover.json" run "$top/drop" --yes
job max '{"kind":"tenant.drop","store":"@","database":"acme","max_items":100}'
expect 3 "more than max_items" 'max.items' -- "$drover" run "$top/max" --yes
job scan '{"kind":"purge","store":"@","database":"acme","collection":"orders","filter":{"total":{"lt":50}}}'
expect 3 "a scan without consent" 'allow.scan' -- "$drover" run "$top/scan" --yes
expect 3 "no --yes and no terminal" -- "$drover" run "$top/drop"
truth "no data folder was made" [ ! -e "$DROVER_DATA/queue.db" ]
same "nothing was touched by any refusal" "$(sums '%')" "$before"
expect 0 "a plan of the drop" 'shard-range' -- "$drover" plan "$top/drop"
expect 0 "the dry run of run" 'DRY RUN' -- "$drover" run "$top/drop" --dry-run
truth "a dry run makes no data folder" [ ! -e "$DROVER_DATA" ]
same "a dry run touches nothing" "$(sums '%')" "$before"
sqlite3 "$top/cluster/s1.db" 'CREATE TABLE log(x); CREATE TRIGGER t AFTER DELETE ON "acme.orders" BEGIN INSERT INTO log VALUES(old.id); END'
expect 3 "a table with triggers" 'trigger' -- "$drover" run "$top/drop" --yes
finish
