#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A full disk under the data folder: drover waits with the reason or ends with 12, nothing is lost, and
# once there is room the same operation goes on and can be rolled back. A small tmpfs is the disk; where
# mounting is not permitted the named fault points stand in for it.
set -u
. "$(dirname "$0")/lib.sh"
make_cluster 20000
before=$(sums '%')
job drop '{"kind":"tenant.drop","store":"@","database":"acme","tuning":{"batch_items_max":500}}'

# A write that finds no room in the middle of a frame: retried, and nothing is lost.
for point in archive.put.begun archive.put.half archive.put.written queue.commit.before; do
    fresh
    expect 0 "a full disk at $point passes and the run goes on" -- \
        env DROVER_FAULT="$point@6=full" "$drover" --quiet run "$top/drop" --yes
    "$drover" --quiet rollback 1 --yes >"$out" 2>&1 || [ $? = 10 ]
    same "and all of it is back after $point" "$(sums '%')" "$before"
done

disk=$top/disk
mkdir "$disk"
if mount -t tmpfs -o size=1200k tmpfs "$disk" 2>/dev/null; then
    trap 'umount -l "$disk" 2>/dev/null; cleanup' EXIT
    export DROVER_DATA="$disk/data"
    "$drover" --quiet run "$top/drop" --yes >"$out" 2>&1 &
    pid=$!
    pids="$pids $pid"
    # Either it ends with 12, or it waits and says why.
    waits() {
        ! kill -0 "$pid" 2>/dev/null || "$drover" explain 1 2>/dev/null | grep -qi 'space'
    }
    truth "it ends or says that the disk is full" until_true 30 waits
    if kill -0 "$pid" 2>/dev/null; then
        kill -INT "$pid"
        wait "$pid" && code=0 || code=$?
        truth "an interrupted wait ends with 130 or 12 ($code)" [ "$code" = 130 ] || [ "$code" = 12 ]
    else
        wait "$pid" && code=0 || code=$?
        same "it ended with 12" "$code" 12
    fi
    mount -o remount,size=200m "$disk"
    if "$drover" status 1 >/dev/null 2>&1; then
        expect 0 "with room again the operation goes on" -- "$drover" --quiet run 1 --yes
    else
        expect 0 "with room again it starts" -- "$drover" --quiet run "$top/drop" --yes
    fi
    "$drover" --quiet rollback 1 --yes >"$out" 2>&1 || [ $? = 10 ]
    same "and every row comes back" "$(sums '%')" "$before"
fi
finish
