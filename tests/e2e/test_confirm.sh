#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# On a terminal the operator types the target's name; anything else is refused with nothing touched.
set -u
. "$(dirname "$0")/lib.sh"
here=$(dirname "$0")
make_cluster 2000
before=$(sums '%')
job drop '{"kind":"tenant.drop","store":"@","database":"acme"}'
expect 3 "the wrong name" -- python3 "$here/confirm.py" globex "$drover" run "$top/drop"
expect 3 "just yes" -- python3 "$here/confirm.py" yes "$drover" run "$top/drop"
same "nothing was touched" "$(sums '%')" "$before"
expect 0 "the right name" 'acme' -- python3 "$here/confirm.py" acme "$drover" run "$top/drop"
truth "it is done" status_is 1 done
truth "and acme is gone" [ "$(sums '%')" != "$before" ]
finish
