# shellcheck shell=bash disable=SC2034
# What the scripts beside this one share. It is sourced, never run.

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)
services=(postgres redis rabbitmq)
processes=(api expirer relay)

say() { printf '%s\n' "$*" >&2; }

# fail MESSAGE [WAY OUT...]
fail() {
    say "error: $1"
    shift
    (($# == 0)) || printf '  %s\n' "$@" >&2
    exit 1
}

# Processes are told apart through /proc, and started with flock, setsid and setpriv from util-linux.
if [[ ! -r /proc/self/stat ]] || ! command -v flock setsid >/dev/null; then
    fail "deploy/local needs Linux with util-linux (flock, setsid)." \
        "Elsewhere, run everything in containers: docker compose --profile app up"
fi

# start_time PID: prints when a live process started, in clock ticks since boot, and fails when there is
# none. A zombie is not alive: in a container without an init, nobody may ever collect it.
start_time() {
    local line fields
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
    # The program's name is in parentheses and may hold spaces, so counting begins after the last one.
    read -ra fields <<<"${line##*) }"
    [[ ${fields[0]} != [ZX] ]] && echo "${fields[19]}"
}

# running PIDFILE: prints the PID when the process that wrote the file still runs. PIDs are used again,
# so the file holds the start time too: a process that we didn't start is never signalled.
running() {
    local pid start
    { read -r pid start <"$1"; } 2>/dev/null || return 1
    [[ -n $start && $(start_time "$pid") == "$start" ]] && echo "$pid"
}

# launch PIDFILE LOGFILE COMMAND...: starts a process that outlives this script, its caller and its terminal.
launch() {
    local pid_file=$1 log_file=$2
    shift 2
    rm -f "$pid_file"
    (
        # Our locks and our caller's pipes must not stay open for as long as the server lives.
        for fd in /proc/self/fd/*; do
            fd=${fd##*/}
            if ((fd > 2 && fd != 255)); then eval "exec $fd>&-"; fi
        done
        exec </dev/null >>"$log_file" 2>&1
        # The process itself notes who it is before it becomes the server. Were this script killed here,
        # the next one would still find the server.
        pid=$BASHPID
        echo "$pid $(start_time "$pid")" >"$pid_file"
        exec setsid -- "$@"
    ) &
    # The shell need not tell how a process that is no longer its concern has ended.
    disown
    until [[ -s $pid_file ]] || ! start_time $! >/dev/null; do sleep 0.02; done
}

# stop_process PIDFILE SIGNAL SECONDS: asks a process to end and waits; fails when it is still there.
stop_process() {
    local pid waited
    pid=$(running "$1") || return 0
    kill "-$2" "$pid" 2>/dev/null || true
    for ((waited = 0; waited < $3 * 20; waited++)); do
        running "$1" >/dev/null || return 0
        sleep 0.05
    done
    return 1
}

# kill_process PIDFILE: ends a process and all that descend from it, at once.
kill_process() {
    local pid grew=1 stat line rest
    local -A parents=() tree=()
    pid=$(running "$1") || return 0
    for stat in /proc/[0-9]*/stat; do
        { read -r line <"$stat"; } 2>/dev/null || continue
        rest=${line##*) }
        rest=${rest#* }
        parents[${line%% *}]=${rest%% *}
    done
    # A process group would not do: PostgreSQL's and Erlang's children each make their own.
    tree[$pid]=1
    while ((grew)); do
        grew=0
        for pid in "${!parents[@]}"; do
            if [[ -z ${tree[$pid]-} && -n ${tree[${parents[$pid]}]-} ]]; then
                tree[$pid]=1
                grew=1
            fi
        done
    done
    kill -KILL "${!tree[@]}" 2>/dev/null || true
    for pid in "${!tree[@]}"; do
        while start_time "$pid" >/dev/null; do sleep 0.02; done
    done
}

# listening PORT: whether some program on this machine accepts TCP connections there.
listening() {
    local port
    printf -v port '%04X' "$1"
    grep -qsE "^ *[0-9]+: [0-9A-F]+:$port [0-9A-F]+:[0-9A-F]+ 0A " /proc/net/tcp /proc/net/tcp6
}

# wait_until SECONDS WHAT COMMAND...: repeats the command until it succeeds, and tells of long waits.
wait_until() {
    local seconds=$1 what=$2 began=$SECONDS told=0
    shift 2
    until "$@"; do
        if ((SECONDS - began >= seconds)); then return 1; fi
        if ((SECONDS - began >= told + 5)); then
            told=$((SECONDS - began))
            say "  still waiting for $what ($told s of at most $seconds s)"
        fi
        sleep 0.1
    done
}

# show_log FILE: the end of a log, indented, so that it can't be mistaken for our own words.
show_log() {
    say "  the end of $1:"
    tail -n 20 "$1" 2>/dev/null | sed 's/^/    /' >&2 || true
}

# Servers outside the PATH: Debian keeps PostgreSQL's in one folder for each version, and its RabbitMQ on
# the PATH is a wrapper that insists on its own user and drops the settings that keep an instance private.

# installed_postgres VERSION: the folder of PostgreSQL's programs of that major version, or of the newest one for '*'.
installed_postgres() {
    local newest
    newest=$({ compgen -G "/usr/lib/postgresql/$1/bin/initdb" || compgen -G "/usr/pgsql-$1/bin/initdb" || true; } | sort -V | tail -n 1)
    [[ -x $newest ]] && echo "${newest%/*}"
}

# postgres_bin: the folder of the programs to use: FLASHSALE_LOCAL_POSTGRES_BIN, else the newest one's.
postgres_bin() {
    local program
    if [[ -n ${FLASHSALE_LOCAL_POSTGRES_BIN-} ]]; then
        [[ -x $FLASHSALE_LOCAL_POSTGRES_BIN/initdb ]] && (cd -- "$FLASHSALE_LOCAL_POSTGRES_BIN" && pwd -P)
    else
        installed_postgres '*' || { program=$(command -v initdb) && echo "${program%/*}"; }
    fi
}

# find_postgres_owner: sets as_owner, the words to put before a command that PostgreSQL's user must run; for root also
# owner, that user's name. PostgreSQL refuses to run as root. Any other user does; Debian's is made for it.
find_postgres_owner() {
    as_owner=()
    if ((EUID == 0)); then
        owner=postgres
        id "$owner" >/dev/null 2>&1 || owner=nobody
        as_owner=(setpriv "--reuid=$owner" "--regid=$(id -g "$owner")" --clear-groups --)
    fi
}

rabbitmq_bin() {
    local program
    for program in /usr/lib/rabbitmq/bin /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin /opt/rabbitmq/sbin; do
        if [[ -x $program/rabbitmq-server ]]; then
            echo "$program"
            return
        fi
    done
    return 1
}

# setting_names: every environment variable that one of the three processes reads.
setting_names() {
    printf '%s\n' DATABASE_URL REDIS_URL AMQP_URL ADMIN_TOKEN RUST_LOG LOG_FORMAT HOLD_SECONDS SHUTDOWN_SECONDS
    sed -nE 's/^#? ?([A-Z][A-Z0-9_]*)=.*/\1/p' "$root/.env.example" 2>/dev/null || true
}
