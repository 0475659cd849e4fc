#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A throw-away SQL server for tests: a free loopback port, a folder of its own, nothing synced.
#
#   sql_server.sh start mariadb|postgres DIR [--owner PID] [server option ...]
#       Make DIR, start a server in it and print (also into DIR/env):
#         URL=...        an ordinary user "drover" who owns the database "drover"
#         ADMIN_URL=...  the superuser
#         PORT=... SOCKET=... (the folder, for PostgreSQL) PID=...
#       With --owner the server stops and DIR goes away when that process ends.
#   sql_server.sh halt DIR      stop the server orderly, keep DIR
#   sql_server.sh crash DIR     kill the server at once, keep DIR
#   sql_server.sh again DIR     start it once more on the same port
#   sql_server.sh stop DIR      stop it and remove DIR (harmless when there is none)
#
# Run by root, the servers run as an ordinary user (SQL_SERVER_USER, else "nobody").
set -euo pipefail

self=$(readlink -f "$0")
password='dr@ver:1/2%'
password_url='dr%40ver%3A1%2F2%25'
wait_tenths_max=600

say() { echo "sql_server.sh: $*" >&2; }
die() { say "$*"; exit 1; }

as_user=()
server_user=
if [ "$(id -u)" = 0 ]; then
    server_user=${SQL_SERVER_USER:-nobody}
    id "$server_user" >/dev/null 2>&1 || die "there is no user '$server_user'; set SQL_SERVER_USER"
    as_user=(setpriv --reuid "$(id -u "$server_user")" --regid "$(id -g "$server_user")" --clear-groups)
fi

find_program() { # name, folders to look in first ...
    local name=$1 folder
    shift
    for folder in "$@"; do
        [ -x "$folder/$name" ] && { echo "$folder/$name"; return; }
    done
    command -v "$name" || die "$name is not installed"
}

pg_folders() { # newest version first
    find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -t/ -k5,5nr
}

pg_program() {
    # shellcheck disable=SC2046
    find_program "$1" $(pg_folders)
}

free_port() {
    local port tries
    for tries in $(seq 1 100); do
        port=$((20000 + (RANDOM * 32768 + RANDOM + tries) % 12000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
    done
    die "no free port between 20000 and 32000"
}

# A zombie is no server, unless threads of it are still on their way out ("Zl").
is_running() { # dir
    local pid state
    pid=$(cat "$1/pid" 2>/dev/null) || return 1
    [ -n "$pid" ] && state=$(ps -o stat= -p "$pid") || return 1
    case $state in Z*l*) return 0 ;; Z*) return 1 ;; *) return 0 ;; esac
}

end_server() { # dir signal
    local pid tenths=0
    is_running "$1" || return 0
    pid=$(cat "$1/pid")
    kill -"$2" "$pid" 2>/dev/null || true
    while is_running "$1"; do
        tenths=$((tenths + 1))
        [ $tenths -gt $wait_tenths_max ] && die "the server in $1 (process $pid) does not end"
        sleep 0.1
    done
}

# An immediate shutdown is PostgreSQL's crash: a killed postmaster would leave its children and their
# shared memory behind for a while.
crash_signal() { # dir
    if [ "$(cat "$1/kind")" = postgres ]; then echo QUIT; else echo KILL; fi
}

halt_signal() { # dir
    if [ "$(cat "$1/kind")" = postgres ]; then echo INT; else echo TERM; fi
}

# The command line is kept in DIR/command, one argument a line, so that `again` needs no facts.
launch() { # dir
    local command
    mapfile -t command <"$1/command"
    (cd "$1" && exec setsid "${as_user[@]}" "${command[@]}" </dev/null >>"$1/log" 2>&1 3>&- 4>&-) &
    echo $! >"$1/pid"
    disown
}

mariadb_answers() { # dir
    "$(find_program mariadb /usr/bin)" --no-defaults -S "$1/sql.sock" -u root \
        ${2:+-p"$2"} -e 'SELECT 1' >/dev/null 2>&1
}

postgres_answers() { # dir password
    PGPASSWORD=$2 "$(pg_program psql)" -X -h "$1" -p "$(cat "$1/port")" -U postgres -d postgres \
        -c 'SELECT 1' >/dev/null 2>&1
}

wait_ready() { # dir kind password
    local tenths=0
    until "$2_answers" "$1" "$3"; do
        is_running "$1" || return 1
        tenths=$((tenths + 1))
        [ $tenths -gt $wait_tenths_max ] && { tail -20 "$1/log" >&2; die "the server in $1 does not answer"; }
        sleep 0.1
    done
}

# Its bootstrap server now and then dies at once when several start at the same moment: once more then.
# A MariaDB that starts removes all "#sql*" from its folder for temporary tables, whosever they are,
# and one that misses its own crashes when it drops them: so each server has a folder of its own.
make_mariadb() { # dir
    local try
    for try in 1 2 3; do
        TMPDIR=$1 "${as_user[@]}" "$(find_program mariadb-install-db /usr/bin)" --no-defaults --datadir="$1/data" \
            --auth-root-authentication-method=normal --skip-test-db >"$1/log" 2>&1 && return
        grep -iE 'error|signal|abort' "$1/log" >&2 || tail -20 "$1/log" >&2
        "${as_user[@]}" find "$1/data" -mindepth 1 -delete
    done
    die "mariadb-install-db failed $try times"
}

# What was committed must outlive a crash of the server (not of the machine): logs are written at each
# commit, but not synced.
command_mariadb() { # dir port, server options
    local dir=$1 port=$2
    shift 2
    printf '%s\n' "$(find_program mariadbd /usr/sbin)" --no-defaults --datadir="$dir/data" \
        --socket="$dir/sql.sock" --tmpdir="$dir" --pid-file="$dir/data/server.pid" --port="$port" \
        --bind-address=127.0.0.1 --skip-name-resolve --innodb-flush-log-at-trx-commit=2 \
        --innodb-buffer-pool-size=64M --innodb-log-file-size=32M --innodb-flush-method=nosync \
        --innodb-doublewrite=0 --innodb-fast-shutdown=2 --sync-binlog=0 --sync-frm=0 --performance-schema=OFF \
        --character-set-server=utf8mb4 --local-infile=ON --max-allowed-packet=64M "$@" >"$dir/command"
}

fill_mariadb() { # dir
    "$(find_program mariadb /usr/bin)" --no-defaults -S "$1/sql.sock" -u root <<SQL
CREATE DATABASE drover;
CREATE USER drover@'%' IDENTIFIED BY '$password';
GRANT ALL ON drover.* TO drover@'%';
GRANT PROCESS, BINLOG MONITOR, SLAVE MONITOR ON *.* TO drover@'%';
DROP USER IF EXISTS root@'127.0.0.1', root@'::1', root@'$(hostname)';
CREATE USER root@'%' IDENTIFIED BY '$password';
GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;
SQL
}

make_postgres() { # dir
    echo "$password" >"$1/pwfile"
    chmod 644 "$1/pwfile"
    "${as_user[@]}" "$(pg_program initdb)" -D "$1/data" -U postgres -A scram-sha-256 \
        --pwfile="$1/pwfile" -E UTF8 --locale=C.UTF-8 --no-sync >"$1/log" 2>&1 \
        || { tail -20 "$1/log" >&2; die "initdb failed"; }
}

command_postgres() { # dir port, server options
    local dir=$1 port=$2
    shift 2
    printf '%s\n' "$(pg_program postgres)" -D "$dir/data" -p "$port" -k "$dir" -h 127.0.0.1 -F \
        -c full_page_writes=off -c shared_buffers=32MB \
        -c deadlock_timeout=100ms -c max_connections=60 -c max_wal_size=256MB \
        -c max_prepared_transactions=4 "$@" >"$dir/command"
}

fill_postgres() { # dir
    PGPASSWORD=$password "$(pg_program psql)" -X -q -v ON_ERROR_STOP=1 -h "$1" \
        -p "$(cat "$1/port")" -U postgres -d postgres <<SQL
CREATE ROLE drover LOGIN PASSWORD '$password' IN ROLE pg_monitor;
CREATE DATABASE drover OWNER drover;
SQL
}

write_env() { # dir kind
    local scheme=mysql root=root socket=$1/sql.sock at
    [ "$2" = postgres ] && { scheme=postgres; root=postgres; socket=$1; }
    at="127.0.0.1:$(cat "$1/port")/drover"
    {
        echo "URL=$scheme://drover:$password_url@$at"
        echo "ADMIN_URL=$scheme://$root:$password_url@$at"
        echo "PORT=$(cat "$1/port")"
        echo "SOCKET=$socket"
        echo "PID=$(cat "$1/pid")"
    } >"$1/env"
}

# Another program may take the port between the look and the bind, so the start is tried again.
start_server() { # dir kind, server options
    local dir=$1 kind=$2 try no_password=
    shift 2
    [ "$kind" = postgres ] && no_password=$password
    for try in 1 2 3 4 5; do
        free_port >"$dir/port"
        "command_$kind" "$dir" "$(cat "$dir/port")" "$@"
        launch "$dir"
        wait_ready "$dir" "$kind" "$no_password" && return
        say "try $try to start $kind in $dir failed"
    done
    tail -20 "$dir/log" >&2
    die "$kind does not start in $dir"
}

# Stops the server when the process it was started for ends, however it ends.
watch_owner() { # dir pid
    # shellcheck disable=SC2016
    setsid bash -c 'while kill -0 "$1" 2>/dev/null && [ -e "$3/pid" ]; do sleep 1; done
        [ -e "$3/pid" ] && exec "$2" stop "$3"' watch "$2" "$self" "$1" \
        </dev/null >/dev/null 2>&1 3>&- 4>&- &
    disown
}

start() { # kind dir [--owner pid] options
    local kind=$1 dir owner=
    case $kind in mariadb | postgres) ;; *) die "unknown kind '$kind'; use mariadb or postgres" ;; esac
    mkdir -p "$2"
    dir=$(readlink -f "$2")
    shift 2
    if [ "${1:-}" = --owner ]; then
        owner=$2
        shift 2
    fi
    [ -e "$dir/data" ] && die "$dir holds a server already"
    if [ -n "$server_user" ]; then
        chown "$server_user" "$dir"
        "${as_user[@]}" test -w "$dir" || die "user '$server_user' cannot reach $dir"
    fi
    echo "$kind" >"$dir/kind"
    "make_$kind" "$dir"
    start_server "$dir" "$kind" "$@"
    "fill_$kind" "$dir" || die "the $kind server in $dir cannot be prepared"
    write_env "$dir" "$kind"
    [ -n "$owner" ] && watch_owner "$dir" "$owner"
    cat "$dir/env"
}

again() { # dir
    local kind no_password=
    kind=$(cat "$1/kind")
    is_running "$1" && die "the server in $1 runs already"
    rm -f "$1/data/postmaster.pid"
    [ "$kind" = postgres ] && no_password=$password
    launch "$1"
    wait_ready "$1" "$kind" "$no_password" || { tail -20 "$1/log" >&2; die "$kind does not start again"; }
    write_env "$1" "$kind"
    cat "$1/env"
}

stop() { # dir
    [ -e "$1/kind" ] || return 0
    end_server "$1" "$(crash_signal "$1")"
    rm -rf "$1"
}

[ $# -ge 2 ] || die "usage: start mariadb|postgres DIR, halt|crash|again|stop DIR"
verb=$1
shift
case $verb in
start) [ $# -ge 2 ] || die "start wants a kind and a folder"; start "$@" ;;
halt) end_server "$(readlink -f "$1")" "$(halt_signal "$1")" ;;
crash) end_server "$(readlink -f "$1")" "$(crash_signal "$1")" ;;
again) again "$(readlink -f "$1")" ;;
stop) [ -d "$1" ] || exit 0; stop "$(readlink -f "$1")" ;;
*) die "unknown verb '$verb'" ;;
esac
