#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The walls of the house: fails where an #include goes up the ranks, reaches into a private header of
# another folder, or brings in a client library outside its store. Keep the table as in ARCHITECTURE.md.
# `tools/check_layers.sh DIR` checks another tree (the checker's own test does that).
set -eu
root=${1:-src}
fail=0

rank() {
    case "$1" in
    base) echo 0 ;;
    obs) echo 1 ;;
    store | archive | catalog) echo 2 ;;
    request) echo 3 ;;
    plan) echo 4 ;;
    queue) echo 5 ;;
    step) echo 6 ;;
    worker | tokenserver | cluster) echo 7 ;;
    verbs) echo 8 ;;
    api | cli) echo 9 ;;
    drover) echo 10 ;;
    *) echo none ;;
    esac
}

complain() {
    echo "$1" >&2
    fail=1
}

for file in $(find "$root" -name '*.[ch]' | sort); do
    path=${file#"$root"/}
    folder=${path%%/*}
    own=$(rank "$folder")
    if [ "$own" = none ]; then
        complain "$file: folder '$folder' has no rank (see ARCHITECTURE.md)"
        continue
    fi
    for include in $(sed -n 's/^ *# *include *"\([^"]*\)".*/\1/p' "$file"); do
        other=${include%%/*}
        theirs=$(rank "$other")
        case "$include" in
        */*) ;;
        *) complain "$file: \"$include\" has no folder; write it from src/" ; continue ;;
        esac
        if [ "$theirs" = none ]; then
            complain "$file: \"$include\" is in no known folder"
        elif [ "$other" != "$folder" ] && [ "$theirs" -ge "$own" ]; then
            complain "$file: $folder (rank $own) must not include \"$include\" (rank $theirs)"
        fi
        case "$include" in
        *_private.h)
            [ "${include%/*}" = "${path%/*}" ] ||
                complain "$file: \"$include\" is private to ${include%/*}/"
            ;;
        esac
        case "$folder,$include" in
        # obs knows nothing of stores; the store core names its adapters in one file only.
        store,store/sqlite/* | store,store/redis/* | store,store/mongodb/* | store,store/sql/* | store,store/memory/* | store,store/fault/* | \
            store,store/fleet/* | store,store/manticore/*)
            case "$path" in
            store/store.c | "${include%/*}"/*) ;;
            *) complain "$file: only store/store.c and the adapter itself include \"$include\"" ;;
            esac
            ;;
        *,store/sqlite/* | *,store/redis/* | *,store/mongodb/* | *,store/sql/* | *,store/memory/* | *,store/fault/* | \
            *,store/fleet/* | *,store/manticore/*)
            complain "$file: adapters are reached through store/store.h, not \"$include\"" ;;
        esac
    done
    for include in $(sed -n 's/^ *# *include *<\([^>]*\)>.*/\1/p' "$file"); do
        case "$include" in
        sqlite3.h) case "$path" in base/sql.[ch] | store/sqlite/* | queue/sqlite/*) ;;
            *) complain "$file: <sqlite3.h> belongs behind base/sql.h, store/sqlite and queue/sqlite" ;; esac ;;
        jansson.h) case "$path" in base/json.[ch]) ;;
            *) complain "$file: <jansson.h> comes through base/json.h" ;; esac ;;
        zstd.h) case "$path" in archive/*) ;;
            *) complain "$file: <zstd.h> belongs to archive/" ;; esac ;;
        grpc/* | protobuf-c/*) case "$path" in api/*) ;;
            *) complain "$file: <$include> belongs to api/" ;; esac ;;
        raft.h | raft/* | uv.h) case "$path" in catalog/raft_*) ;;
            *) complain "$file: <$include> belongs to catalog/raft_*" ;; esac ;;
        microhttpd.h) case "$path" in api/*) ;;
            *) complain "$file: <microhttpd.h> belongs to api/" ;; esac ;;
        openssl/*) case "$path" in tokenserver/* | store/mongodb/* | catalog/raft_transport*) ;;
            *) complain "$file: <$include> belongs to tokenserver/, store/mongodb/ and catalog/raft_transport*" ;; esac ;;
        mongoc*|bson*|hiredis*|mysql*|mariadb*|libpq*|curl/*) case "$path" in store/*/*) ;;
            *) complain "$file: <$include> belongs to its folder in store/" ;; esac ;;
        esac
    done
done
[ "$fail" = 0 ] && echo "layers: every include goes down"
exit "$fail"
