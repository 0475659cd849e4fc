#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# House rules a script can see: licence line, file length, function length, banned calls, sleeping,
# folder READMEs, words that do not belong in the repository.
set -eu
fail=0
complain() {
    echo "$1" >&2
    fail=1
}
files=$(git ls-files --cached --others --exclude-standard '*.c' '*.h')
for file in $files; do
    [ -f "$file" ] || continue
    head -n 1 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0' ||
        complain "$file:1: the first line names the licence (SPDX-License-Identifier: Apache-2.0)"
    lines=$(wc -l <"$file")
    [ "$lines" -le 800 ] || complain "$file: $lines lines; split it (800 at most)"
    awk -v file="$file" '
        /^[A-Za-z_].*\)$/ || /^[A-Za-z_].*\) *{$/ { name = $0; start = NR }
        /^{/ { body = NR }
        /^}/ { if (body && NR - body > 72) { printf "%s:%d: function of %d lines (70 at most)\n", file, body, NR - body - 1; bad = 1 } body = 0 }
        END { exit bad }' "$file" >&2 || fail=1
done
for file in $(printf '%s\n' $files | grep '^src/'); do
    case "$file" in src/base/mem.c) ;; *)
        if grep -nE '(^|[^_a-zA-Z])(malloc|calloc|realloc|strdup|strndup|asprintf) *\(' "$file" |
            grep -vE '^\S*[0-9]+: *(/?\*|//)' >&2; then
            complain "$file: allocate through base/mem.h"
        fi ;;
    esac
    if grep -nE '(^|[^_a-zA-Z])(strcpy|strcat|sprintf|vsprintf|strtok|atoi|atol|gets) *\(' "$file" >&2; then
        complain "$file: a banned function"
    fi
    case "$file" in src/base/backoff.c | src/base/fault.c) ;; *)
        if grep -nE '(^|[^_a-zA-Z0-9])(usleep|nanosleep|clock_nanosleep|sleep) *\(' "$file" >&2; then
            complain "$file: only base/backoff.c sleeps"
        fi ;;
    esac
    if grep -nE '^extern [^"(]*[;=]' "$file" >&2; then
        complain "$file: no extern variables"
    fi
done
for folder in src/*/; do
    case "$folder" in src/drover/) continue ;; esac
    [ -f "$folder/README.md" ] || complain "$folder: has no README.md"
done
[ "$fail" = 0 ] && echo "style: as agreed"
exit "$fail"
