#!/usr/bin/env bash
# One private server: its data, log, pid and port live in DIR, and it listens on 127.0.0.1 only. Any number
# of instances run side by side. 'make up', 'make test' and the fault tests all start their servers with it.
#
# Usage: server.sh {postgres|redis|rabbitmq} {start|stop|kill|status|erase} DIR [PORT]
#   start   makes the instance if need be, waits until it is ready, and prints its URL
#   stop    orderly; waits until it is gone
#   kill    SIGKILL to every process of it, as a crash would be
#   status  prints the URL when it runs, and fails otherwise
#   erase   kill, then remove DIR
# Without PORT, the port of last time is used again, or a free one is picked and remembered in DIR.
# FLASHSALE_LOCAL_POSTGRES_BIN: the folder of PostgreSQL's programs, in place of the newest version installed.
# FLASHSALE_LOCAL_POSTGRES_OPTIONS: more options for PostgreSQL, such as "-c fsync=off".
# FLASHSALE_LOCAL_TLS: a folder with server.crt and server.key, for TLS. RabbitMQ and Redis then take nothing else.
# FLASHSALE_LOCAL_POSTGRES_ROLE: more attributes of the role in its URL, such as "createrole".
# FLASHSALE_LOCAL_POSTGRES_EXTENSIONS: extensions that each of its databases has, in schema pg_catalog, where they are
# installed on this machine. Made with the instance, like the role.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "$0")/lib.sh"

# Crash recovery of a large database can take minutes; nothing else comes near this limit.
ready_seconds=180
stop_seconds=60

(($# == 3 || $# == 4)) || fail "usage: server.sh {postgres|redis|rabbitmq} {start|stop|kill|status|erase} DIR [PORT]"
service=$1 action=$2 dir=$3 fixed_port=${4-}
[[ " ${services[*]} " == *" $service "* ]] || fail "no service '$service'; there are: ${services[*]}"
[[ $action =~ ^(start|stop|kill|status|erase)$ ]] || fail "no action '$action'; there are: start stop kill status erase"
[[ $fixed_port =~ ^[0-9]*$ ]] || fail "PORT must be a number, not '$fixed_port'"
tls=${FLASHSALE_LOCAL_TLS-}

main() {
    if [[ $action == start ]]; then
        mkdir -p "$dir"
    elif [[ ! -d $dir ]]; then
        # There is nothing to stop. Only 'status' has something to say about that.
        [[ $action != status ]]
        exit
    fi
    dir=$(cd -- "$dir" && pwd -P)
    pid_file=$dir/pid log_file=$dir/log
    exec {lock}>"$dir/lock"
    flock -w "$((ready_seconds + stop_seconds))" "$lock" || fail "another server.sh has been busy with $dir for too long."
    "${action}_server"
}

url() {
    case $service in
        postgres) echo "postgres://flashsale:flashsale@127.0.0.1:$(<"$dir/port")/flashsale" ;;
        redis) echo "redis${tls:+s}://127.0.0.1:$(<"$dir/port")/0" ;;
        rabbitmq) echo "amqp${tls:+s}://guest:guest@127.0.0.1:$(<"$dir/port")/%2f" ;;
    esac
}

start_server() {
    local tries_left=3
    if running "$pid_file" >/dev/null && [[ -n $fixed_port && $fixed_port != "$(<"$dir/port")" ]]; then
        fail "$service in $dir already runs, on port $(<"$dir/port"). Stop it first to move it to $fixed_port."
    fi
    # More than one try, since another program can take a port between our look and the server's own, and
    # since the children of a crashed PostgreSQL may hold its memory for a moment longer.
    while ((tries_left-- > 0)); do
        if ! running "$pid_file" >/dev/null; then
            choose_port port "$fixed_port"
            "start_$service"
        fi
        if wait_until "$ready_seconds" "$service" is_ready_or_gone && running "$pid_file" >/dev/null; then
            url
            return
        fi
        if running "$pid_file" >/dev/null; then
            kill_server
            tries_left=0
        fi
        sleep 1
    done
    show_log "$log_file"
    fail "$service did not start in $dir."
}

stop_server() {
    local signal=TERM
    # SIGINT is PostgreSQL's fast mode: it ends sessions, where SIGTERM would wait for them.
    if [[ $service == postgres ]]; then signal=INT; fi
    if ! stop_process "$pid_file" "$signal" "$stop_seconds"; then
        say "$service in $dir did not stop within $stop_seconds s; killing it."
    fi
    kill_server
}

kill_server() {
    kill_process "$pid_file"
    kill_process "$dir/epmd.pid"
    rm -f "$pid_file" "$dir/epmd.pid"
}

status_server() { running "$pid_file" >/dev/null && url; }

erase_server() {
    local data
    kill_server
    data=$(readlink "$dir/data") && rm -rf -- "${data%/*}"
    rm -rf -- "$dir"
}

is_ready_or_gone() {
    local pid
    pid=$(running "$pid_file") || return 0
    "is_ready_$service" "$pid"
}

# choose_port NAME [FIXED]: leaves a port that nobody listens on in DIR/NAME.
choose_port() {
    local file=$dir/$1 port=${2-}
    if [[ -n $port ]]; then
        if listening "$port"; then fail "port $port, wanted for $service, is taken by another program."; fi
    else
        port=$(cat "$file" 2>/dev/null) || true
        # The range lies below the one that the kernel deals out to clients, so that no client sits on it.
        while [[ -z $port ]] || listening "$port"; do port=$((20000 + RANDOM % 12000)); done
    fi
    echo "$port" >"$file"
}

# PostgreSQL -------------------------------------------------------------------------------------------

start_postgres() {
    local bin data options
    find_postgres_owner
    bin=$(postgres_bin) || {
        [[ -z ${FLASHSALE_LOCAL_POSTGRES_BIN-} ]] ||
            fail "PostgreSQL's server programs are not in FLASHSALE_LOCAL_POSTGRES_BIN: $FLASHSALE_LOCAL_POSTGRES_BIN"
        fail "PostgreSQL's server programs are not on this machine. Run: deploy/local/install.sh postgres"
    }
    # The working directory of our caller may be closed to that user, which PostgreSQL does not forgive.
    cd /
    data=$(readlink -m "$dir/data")
    if [[ ! -e $data ]]; then
        make_cluster
        data=$(readlink -m "$dir/data")
    fi
    if [[ ! $("$bin/postgres" --version) =~ \ $(<"$data/PG_VERSION")[^0-9] ]]; then
        bin=$(installed_postgres "$(<"$data/PG_VERSION")") ||
            fail "the data in $dir were made by PostgreSQL $(<"$data/PG_VERSION"), which is not on this machine." \
                "Install that version, name the folder of its programs in FLASHSALE_LOCAL_POSTGRES_BIN, or erase the data:" \
                "deploy/local/server.sh postgres erase $dir"
    fi
    # Our pid file has said that this instance is not running, so the PID in this one, if it is in use, is
    # another process's. PostgreSQL could not tell and would refuse.
    rm -f "$data/postmaster.pid"
    read -ra options <<<"${FLASHSALE_LOCAL_POSTGRES_OPTIONS-}"
    if [[ -n $tls ]]; then
        # It refuses a key that others can read.
        install -m 600 "$tls/server.crt" "$tls/server.key" "$data/"
        if ((EUID == 0)); then chown "$owner:" "$data"/server.*; fi
        options+=(-c ssl=on)
    fi
    # No Unix socket: its path may be at most 107 bytes long, and DIR may be longer.
    launch "$pid_file" "$log_file" "${as_owner[@]}" "$bin/postgres" -D "$data" \
        -c listen_addresses=127.0.0.1 -c port="$(<"$dir/port")" -c unix_socket_directories= \
        -c max_connections=200 -c shared_buffers=512MB -c max_wal_size=4GB "${options[@]}"
}

# make_cluster: DIR/data appears complete or not at all, under its final name only when it is usable.
make_cluster() {
    local new=$dir/data.new home extensions=${FLASHSALE_LOCAL_POSTGRES_EXTENSIONS-}
    if [[ -L $dir/data ]]; then
        new=$(readlink "$dir/data").new
    fi
    say "  making a new PostgreSQL database in $dir"
    new_folder "$new"
    if ! "${as_owner[@]}" test -w "$new"; then
        # A folder above DIR (/root, say) is closed to the other user, or DIR can't be given to one. So the
        # data go where both can reach them, and DIR gets a link. The alternative, a capability to pass
        # closed folders, would let the server read every file of the machine, and containers lack it.
        rm -rf "$new"
        mkdir -p /var/lib/flashsale-local
        home=$(mktemp -d /var/lib/flashsale-local/XXXXXXXX)
        ln -s "$home/data" "$dir/data"
        chmod 711 "$home"
        new=$home/data.new
        new_folder "$new"
    fi
    # Single-user mode makes the role and the database without a server, one command on each line. The
    # superuser gets no password and so can't connect at all: its sessions could run any program. The same session makes
    # the extensions, which only a superuser may. In template1 they reach each database that is made later; in
    # pg_catalog no search_path hides them, and the schemas that tests compare, empty and drop are without them.
    {
        "${as_owner[@]}" "$bin/initdb" -D "$new" --username=postgres --auth=reject --encoding=UTF8 --locale=C.UTF-8 &&
            echo 'host all all 127.0.0.1/32 scram-sha-256' >"$new/pg_hba.conf" &&
            "${as_owner[@]}" "$bin/postgres" --single -D "$new" -c exit_on_error=true template1 <<-SQL
			create role flashsale login createdb ${FLASHSALE_LOCAL_POSTGRES_ROLE-} password 'flashsale'
			do \$\$ declare one name; begin for one in select name from pg_available_extensions where name = any (string_to_array('$extensions', ' ')) loop execute format('create extension %I schema pg_catalog', one); end loop; end \$\$
			create database flashsale owner flashsale
			SQL
    } >>"$log_file" 2>&1 || {
        show_log "$log_file"
        fail "could not make a PostgreSQL database in $dir."
    }
    mv -T "$new" "${new%.new}"
}

new_folder() {
    rm -rf "$1"
    mkdir -m 700 "$1"
    if ((EUID == 0)); then chown "$owner:" "$1" 2>/dev/null || true; fi
}

# PostgreSQL itself notes in this file who it is and, on the eighth line, whether it takes connections.
is_ready_postgres() {
    local lines
    { readarray -t lines <"$dir/data/postmaster.pid"; } 2>/dev/null || return 1
    [[ ${lines[0]-} == "$1" && ${lines[7]-} == ready* ]]
}

# Redis ------------------------------------------------------------------------------------------------

# Nothing is kept: what Redis holds here is a hint that the truth in PostgreSQL outlives.
start_redis() {
    command -v redis-server >/dev/null || fail "redis-server is not on this machine. Run: deploy/local/install.sh redis"
    cd "$dir"
    local ports=(--port "$(<port)")
    if [[ -n $tls ]]; then
        ports=(--port 0 --tls-port "$(<port)" --tls-auth-clients no
            --tls-cert-file "$tls/server.crt" --tls-key-file "$tls/server.key")
    fi
    launch "$pid_file" "$log_file" redis-server "${ports[@]}" --bind 127.0.0.1 --save '' --appendonly no --daemonize no
}

# The process id in the answer tells our Redis from another program's that took the port first.
is_ready_redis() {
    redis-cli ${tls:+--tls --insecure} -h 127.0.0.1 -p "$(<"$dir/port")" info server 2>/dev/null | tr -d '\r' | grep -x "process_id:$1" >/dev/null
}

# RabbitMQ ---------------------------------------------------------------------------------------------

start_rabbitmq() {
    local wrapper=$root/deploy/local/rabbitmqctl.sh
    rabbitmq_bin >/dev/null || fail "RabbitMQ is not on this machine. Run: deploy/local/install.sh rabbitmq"
    cd "$dir"
    # Erlang's name service outlives the server that starts it, so it is started, and ended, on its own.
    kill_process epmd.pid
    choose_port epmd-port
    choose_port dist-port
    mkdir -p home data
    echo '[].' >enabled_plugins
    # Several servers and builds share a small machine: less memory before the alarm, less log held in it.
    cat >rabbitmq.conf <<-'CONF'
		vm_memory_high_watermark.relative = 0.25
		disk_free_limit.absolute = 200MB
		raft.wal_max_size_bytes = 67108864
		CONF
    if [[ -n $tls ]]; then
        cat >>rabbitmq.conf <<-CONF
			listeners.tcp = none
			listeners.ssl.default = 127.0.0.1:$(<port)
			ssl_options.certfile = $tls/server.crt
			ssl_options.keyfile = $tls/server.key
			CONF
    fi
    launch epmd.pid "$log_file" epmd -port "$(<epmd-port)" -address 127.0.0.1
    launch "$pid_file" "$log_file" "$wrapper" --server "$dir"
}

# Its port opens as the last step of its start; the greeting shows that it is RabbitMQ that has it. This costs
# nothing, where each call of rabbitmqctl starts an Erlang machine of its own.
is_ready_rabbitmq() {
    local port greeting
    port=$(<"$dir/port")
    listening "$port" || return 1
    # What speaks TLS on this port is ours: nobody else's program would.
    if [[ -n $tls ]]; then return; fi
    greeting=$({
        exec 3<>"/dev/tcp/127.0.0.1/$port"
        printf 'AMQP\x00\x00\x09\x01' >&3
        timeout 2 head -c 64 <&3 | tr -d '\0'
    } 2>/dev/null) || return 1
    [[ $greeting == *capabilities* ]]
}

main
