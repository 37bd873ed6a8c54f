#!/usr/bin/env bash
# One private server: DIR has its data, log, PID and port. It listens on 127.0.0.1 only. Any number of
# instances can run at the same time. 'make up', 'make test' and the fault tests all start their servers with it.
#
# Usage: server.sh {postgres|redis|rabbitmq} {start|stop|kill|status|erase} DIR [PORT]
#        server.sh postgres {backup DIR|restore DIR POINT}
#   start   creates the instance if needed, waits until it is ready, and prints its URL
#   stop    stops it in order, and waits until it has ended
#   kill    sends SIGKILL to all its processes, as in a crash
#   status  prints the URL if it runs, and fails otherwise
#   erase   kills it and removes DIR
#   backup  takes a base backup. The server needs an archive (below), and a role with the attribute replication
#   restore kills it, and starts it again from the base backup and the archive as of a restore point, which
#           pg_create_restore_point(POINT) has made
# Without PORT, the previous port in DIR is used again, or a free one is chosen and saved there.
# FLASHSALE_LOCAL_POSTGRES_BIN: the folder of PostgreSQL's programs. Default: the newest installed version.
# FLASHSALE_LOCAL_POSTGRES_OPTIONS: more options for PostgreSQL, such as "-c fsync=off".
# FLASHSALE_LOCAL_TLS: a folder with server.crt and server.key, for TLS. RabbitMQ and Redis then accept TLS only.
# FLASHSALE_LOCAL_POSTGRES_ROLE: more attributes of the role in its URL, such as "createrole".
# FLASHSALE_LOCAL_POSTGRES_ARCHIVE: "yes" keeps its write-ahead log in an archive.
# FLASHSALE_LOCAL_POSTGRES_EXTENSIONS: extensions that each of its databases has, in schema pg_catalog, where they are
# installed on this machine. Made with the instance, like the role.
# FLASHSALE_LOCAL_POSTGRES_PRIMARY: the URL of a primary whose role may replicate. The new instance is its standby.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "$0")/lib.sh"

# Crash recovery of a large database can take minutes. Nothing else takes nearly as long.
ready_seconds=180
stop_seconds=60

(($# == 3 || $# == 4)) || fail "usage: server.sh {postgres|redis|rabbitmq} {start|stop|kill|status|erase} DIR [PORT]"
service=$1 action=$2 dir=$3 fixed_port='' restore_point=''
[[ " ${services[*]} " == *" $service "* ]] || fail "no service '$service'; there are: ${services[*]}"
case $service.$action in
    *.start | *.stop | *.kill | *.status | *.erase) fixed_port=${4-} ;;
    postgres.backup | postgres.restore) restore_point=${4-} ;;
    *) fail "no action '$action' of $service; there are: start stop kill status erase, for postgres also backup restore" ;;
esac
[[ $fixed_port =~ ^[0-9]*$ ]] || fail "PORT must be a number, not '$fixed_port'"
tls=${FLASHSALE_LOCAL_TLS-}

main() {
    if [[ $action == start ]]; then
        mkdir -p "$dir"
    elif [[ ! -d $dir ]]; then
        # Nothing to stop. Only 'status' reports that.
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
    # Several attempts: another program may take the port between our check and the server's start, and children of a
    # crashed PostgreSQL may keep its shared memory for a moment.
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
    # SIGINT is PostgreSQL's fast shutdown: it ends sessions, where SIGTERM would wait for them.
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

# choose_port NAME [FIXED]: writes a free port to DIR/NAME.
choose_port() {
    local file=$dir/$1 port=${2-}
    if [[ -n $port ]]; then
        if listening "$port"; then fail "port $port, wanted for $service, is taken by another program."; fi
    else
        port=$(cat "$file" 2>/dev/null) || true
        # Below the kernel's range of ephemeral ports, so that no client connection uses it.
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
    # PostgreSQL fails if its user cannot enter the caller's working directory.
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
    # Our pid file shows that this instance is not running. If the PID in this file exists, it is another process's,
    # but PostgreSQL would refuse to start.
    rm -f "$data/postmaster.pid"
    read -ra options <<<"${FLASHSALE_LOCAL_POSTGRES_OPTIONS-}"
    if [[ -n $tls ]]; then
        # PostgreSQL refuses a key that others can read.
        install -m 600 "$tls/server.crt" "$tls/server.key" "$data/"
        if ((EUID == 0)); then chown "$owner:" "$data"/server.*; fi
        options+=(-c ssl=on)
    fi
    if [[ ${FLASHSALE_LOCAL_POSTGRES_ARCHIVE-} == yes ]]; then
        new_folder "${data%/*}/archive" keep
        options+=(-c archive_mode=on -c "archive_command=cp %p '${data%/*}/archive/%f'")
    fi
    if [[ -n $restore_point ]]; then
        options+=(-c "restore_command=cp '${data%/*}/archive/%f' %p" -c recovery_target_name="$restore_point"
            -c recovery_target_action=promote)
    fi
    # No Unix socket: its path is limited to 107 bytes, and DIR may be longer.
    launch "$pid_file" "$log_file" "${as_owner[@]}" "$bin/postgres" -D "$data" \
        -c listen_addresses=127.0.0.1 -c port="$(<"$dir/port")" -c unix_socket_directories= \
        -c max_connections=200 -c shared_buffers=512MB -c max_wal_size=4GB "${options[@]}"
}

# make_cluster: creates DIR/data. The final name appears only when the cluster is complete.
make_cluster() {
    local new=$dir/data.new home extensions=${FLASHSALE_LOCAL_POSTGRES_EXTENSIONS-}
    if [[ -L $dir/data ]]; then
        new=$(readlink "$dir/data").new
    fi
    local primary=${FLASHSALE_LOCAL_POSTGRES_PRIMARY-}
    say "  making a new PostgreSQL database in $dir"
    new_folder "$new"
    if ! "${as_owner[@]}" test -w "$new"; then
        # PostgreSQL's user may be unable to enter a folder above DIR, such as /root, or to own DIR. Then the data go
        # to a folder that both users can reach, and DIR gets a link. The alternative, a capability to enter closed
        # folders, would let the server read every file of the machine, and containers lack it.
        rm -rf "$new"
        mkdir -p /var/lib/flashsale-local
        home=$(mktemp -d /var/lib/flashsale-local/XXXXXXXX)
        ln -s "$home/data" "$dir/data"
        chmod 711 "$home"
        new=$home/data.new
        new_folder "$new"
    fi
    if [[ -n $primary ]]; then
        "${as_owner[@]}" "$bin/pg_basebackup" --dbname="$primary" --pgdata="$new" --write-recovery-conf \
            --checkpoint=fast --no-sync >>"$log_file" 2>&1 || {
            show_log "$log_file"
            fail "could not copy the primary into $dir."
        }
        mv -T "$new" "${new%.new}"
        return
    fi
    # Single-user mode creates the role and the database without a server, one command per line. The superuser gets no
    # password and cannot connect at all, because its sessions could run any program. The same session creates the
    # extensions, which only a superuser may do. In template1 they are part of each later database. In pg_catalog they
    # are always in the search_path, and not in the schemas that tests compare, empty and drop.
    {
        "${as_owner[@]}" "$bin/initdb" -D "$new" --username=postgres --auth=reject --encoding=UTF8 --locale=C.UTF-8 &&
            printf 'host %s all 127.0.0.1/32 scram-sha-256\n' all replication >"$new/pg_hba.conf" &&
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

# new_folder FOLDER [keep]: an empty folder of PostgreSQL's user. With 'keep', one that is there stays as it is.
new_folder() {
    if [[ ${2-} == keep && -d $1 ]]; then return; fi
    rm -rf "$1"
    mkdir -m 700 "$1"
    if ((EUID == 0)); then chown "$owner:" "$1" 2>/dev/null || true; fi
}

backup_server() {
    local data
    find_postgres_owner
    data=$(readlink -m "$dir/data")
    new_folder "${data%/*}/backup"
    cd /
    "${as_owner[@]}" "$(postgres_bin)/pg_basebackup" -d "$(url)" -D "${data%/*}/backup" -c fast >>"$log_file" 2>&1 || {
        show_log "$log_file"
        fail "could not back up $dir."
    }
}

restore_server() {
    local data
    [[ -n $restore_point ]] || fail "usage: server.sh postgres restore DIR POINT"
    find_postgres_owner
    data=$(readlink -m "$dir/data")
    [[ -e ${data%/*}/backup/PG_VERSION ]] || fail "there is no backup of $dir: server.sh postgres backup $dir"
    kill_server
    rm -rf "$data"
    cp -a "${data%/*}/backup" "$data"
    "${as_owner[@]}" touch "$data/recovery.signal"
    start_server >/dev/null
}

# In this file PostgreSQL writes its PID and, on line 8, whether it accepts connections: "ready", or "standby".
is_ready_postgres() {
    local lines
    { readarray -t lines <"$dir/data/postmaster.pid"; } 2>/dev/null || return 1
    [[ ${lines[0]-} == "$1" && ${lines[7]-} == @(ready|standby)* ]]
}

# Redis ------------------------------------------------------------------------------------------------

# No persistence: Redis only holds hints, and PostgreSQL has the data.
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

# The process id in the answer distinguishes our Redis from another program that took the port first.
is_ready_redis() {
    redis-cli ${tls:+--tls --insecure} -h 127.0.0.1 -p "$(<"$dir/port")" info server 2>/dev/null | tr -d '\r' | grep -x "process_id:$1" >/dev/null
}

# RabbitMQ ---------------------------------------------------------------------------------------------

start_rabbitmq() {
    local wrapper=$root/deploy/local/rabbitmqctl.sh
    rabbitmq_bin >/dev/null || fail "RabbitMQ is not on this machine. Run: deploy/local/install.sh rabbitmq"
    cd "$dir"
    # Erlang's name service outlives the server that starts it, so it is started and stopped separately.
    kill_process epmd.pid
    choose_port epmd-port
    choose_port dist-port
    mkdir -p home data
    echo '[].' >enabled_plugins
    # Several servers and builds share a small machine, so RabbitMQ gets a low memory alarm and keeps less of its log
    # in memory.
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

# The port opens as the last step of the start, and the greeting shows that it is RabbitMQ. This is cheap, while each
# call of rabbitmqctl starts an Erlang VM.
is_ready_rabbitmq() {
    local port greeting
    port=$(<"$dir/port")
    listening "$port" || return 1
    # A server that speaks TLS on this port is ours.
    if [[ -n $tls ]]; then return; fi
    greeting=$({
        exec 3<>"/dev/tcp/127.0.0.1/$port"
        printf 'AMQP\x00\x00\x09\x01' >&3
        timeout 2 head -c 64 <&3 | tr -d '\0'
    } 2>/dev/null) || return 1
    [[ $greeting == *capabilities* ]]
}

main
