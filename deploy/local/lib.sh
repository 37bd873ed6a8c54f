# shellcheck shell=bash disable=SC2034
# Functions shared by the scripts in this folder. Sourced, never run.

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)
services=(postgres redis rabbitmq)
processes=(api expirer relay)
# Of every debug build: with other features, cargo would build everything again. The image has the feature otel, too.
debug_build=(--locked --workspace --all-features)

say() { printf '%s\n' "$*" >&2; }

# fail MESSAGE [REMEDY...]
fail() {
    say "error: $1"
    shift
    (($# == 0)) || printf '  %s\n' "$@" >&2
    exit 1
}

# Processes are identified through /proc, and started with flock, setsid and setpriv from util-linux.
if [[ ! -r /proc/self/stat ]] || ! command -v flock setsid >/dev/null; then
    fail "deploy/local needs Linux with util-linux (flock, setsid)." \
        "Elsewhere, run everything in containers: docker compose --profile app up"
fi

# start_time PID: prints the start time of a live process, in clock ticks since boot. Fails if there is none. A zombie
# does not count as alive: in a container without an init, it may never be reaped.
start_time() {
    local line fields
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
    # The program's name is in parentheses and may contain spaces, so the fields are counted after the last one.
    read -ra fields <<<"${line##*) }"
    [[ ${fields[0]} != [ZX] ]] && echo "${fields[19]}"
}

# running PIDFILE: prints the PID if the process that wrote the file still runs. PIDs are reused, so the file also has
# the start time: a process that was not started here is never signalled.
running() {
    local pid start
    { read -r pid start <"$1"; } 2>/dev/null || return 1
    [[ -n $start && $(start_time "$pid") == "$start" ]] && echo "$pid"
}

# launch PIDFILE LOGFILE COMMAND...: starts a process that survives this script, its caller and its terminal.
launch() {
    local pid_file=$1 log_file=$2
    shift 2
    rm -f "$pid_file"
    (
        # The server must not keep our locks and our caller's pipes open.
        for fd in /proc/self/fd/*; do
            fd=${fd##*/}
            if ((fd > 2 && fd != 255)); then eval "exec $fd>&-"; fi
        done
        exec </dev/null >>"$log_file" 2>&1
        # The process writes its own PID before it becomes the server. If this script is killed here, the next run
        # still finds the server.
        pid=$BASHPID
        echo "$pid $(start_time "$pid")" >"$pid_file"
        exec setsid -- "$@"
    ) &
    # Prevents the shell's message when the process ends.
    disown
    until [[ -s $pid_file ]] || ! start_time $! >/dev/null; do sleep 0.02; done
}

# stop_process PIDFILE SIGNAL SECONDS: signals a process and waits. Fails if it is still running.
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

# kill_process PIDFILE: kills a process and all its descendants at once.
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
    # A process group is not enough: children of PostgreSQL and Erlang create their own groups.
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

# listening PORT: whether a program on this machine accepts TCP connections on the port.
listening() {
    local port
    printf -v port '%04X' "$1"
    grep -qsE "^ *[0-9]+: [0-9A-F]+:$port [0-9A-F]+:[0-9A-F]+ 0A " /proc/net/tcp /proc/net/tcp6
}

# wait_until SECONDS WHAT COMMAND...: repeats the command until it succeeds. Reports long waits.
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

# show_log FILE: prints the end of a log, indented to distinguish it from our own messages.
show_log() {
    say "  the end of $1:"
    tail -n 20 "$1" 2>/dev/null | sed 's/^/    /' >&2 || true
}

# build_release: builds what 'make up' and 'make demo' run. Always the same packages, because with another choice
# dependencies can have other features, and cargo would build them again. All that cargo says is in the log.
build_release() {
    local log=$root/.local/log/build.log
    mkdir -p "${log%/*}"
    say "the log of the build is ${log#"$root/"}"
    # cargo shows its progress only on a terminal, unless it is told to.
    CARGO_TERM_COLOR=never CARGO_TERM_PROGRESS_WHEN=always CARGO_TERM_PROGRESS_WIDTH=80 \
        cargo build --release --locked -p flashsale-api -p flashsale-expirer -p flashsale-relay -p flashsale-demo \
        --bins --examples 2>&1 | show_progress "$log" || {
        show_log "$log"
        fail "the build failed; all of it is in ${log#"$root/"}."
    }
}

# show_progress LOG: reads what cargo says. Writes its lines to the log, and says every five seconds how far it is.
# cargo ends each state of its progress bar with a carriage return.
show_progress() {
    local chunk bar told=$SECONDS counted='([0-9]+)/([0-9]+)'
    : >"$1"
    while IFS= read -r -d $'\r' chunk; do
        bar=${chunk##*$'\n'}
        printf '%s' "${chunk%"$bar"}" >>"$1"
        if ((SECONDS - told >= 5)) && [[ $bar =~ $counted ]]; then
            told=$SECONDS
            say "  ${BASH_REMATCH[1]} of ${BASH_REMATCH[2]} steps done"
        fi
    done
    # What follows the last bar.
    printf '%s' "$chunk" >>"$1"
}

# Servers outside the PATH: Debian has a folder for each PostgreSQL version, and its RabbitMQ on the PATH is a wrapper
# that requires its own user and drops the settings of a private instance.

# installed_postgres VERSION: the folder with PostgreSQL's programs of that major version, or the newest for '*'.
installed_postgres() {
    local newest
    newest=$({ compgen -G "/usr/lib/postgresql/$1/bin/initdb" || compgen -G "/usr/pgsql-$1/bin/initdb" || true; } | sort -V | tail -n 1)
    [[ -x $newest ]] && echo "${newest%/*}"
}

# postgres_bin: the folder of the programs to use: FLASHSALE_LOCAL_POSTGRES_BIN, else the newest installed version.
postgres_bin() {
    local program
    if [[ -n ${FLASHSALE_LOCAL_POSTGRES_BIN-} ]]; then
        [[ -x $FLASHSALE_LOCAL_POSTGRES_BIN/initdb ]] && (cd -- "$FLASHSALE_LOCAL_POSTGRES_BIN" && pwd -P)
    else
        installed_postgres '*' || { program=$(command -v initdb) && echo "${program%/*}"; }
    fi
}

# find_postgres_owner: sets as_owner, the prefix of commands that must run as PostgreSQL's user. For root it also sets
# owner, that user's name: PostgreSQL refuses to run as root. Any other user works, and Debian's is meant for it.
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

# setting_names: every environment variable that any of the three processes reads.
setting_names() {
    printf '%s\n' DATABASE_URL REDIS_URL AMQP_URL ADMIN_TOKEN RUST_LOG LOG_FORMAT HOLD_SECONDS SHUTDOWN_SECONDS
    sed -nE 's/^#? ?([A-Z][A-Z0-9_]*)=.*/\1/p' "$root/.env.example" 2>/dev/null || true
}

# older_release: sets from, the release that 'make upgrade' and 'make compare' take, if FROM does not name one.
older_release() {
    local newest
    from=${FROM-}
    if [[ -n $from ]] || from=$(git describe --tags --abbrev=0 --match 'v[0-9]*' HEAD^ 2>/dev/null); then return; fi
    newest=$(git ls-files 'migrations/*.up.sql' | tail -n 1)
    # A file may have got its number only in a merge.
    newest=$(git log -1 --first-parent -m --format=%H --diff-filter=A -- "$newest")
    [[ -n $newest ]] || fail "no older release: there is no tag, and no history of the migrations." \
        "Name it: FROM=COMMIT"
    from=$newest^
}

# build_older OPTION...: builds that release with these options of cargo, unless it was built before. Prints the folder
# of its programs. If FROM is a folder, it has them.
build_older() {
    local commit folder kind=debug source=$root/target/upgrade/source build=$root/target/upgrade/build
    if [[ -d $from ]]; then
        (cd -- "$from" && pwd -P)
        return
    fi
    commit=$(git rev-parse --verify --quiet "$from^{commit}") || fail "FROM: git knows no commit '$from'."
    if [[ " $* " == *" --release "* ]]; then kind=release; fi
    folder=$root/target/upgrade/$kind-$commit
    if [[ ! -d $folder ]]; then
        say "building the programs of $from (minutes)"
        # Every file gets the time of now: cargo must not take the files of another commit for these.
        rm -rf "$source" "$folder.new"
        mkdir -p "$source" "$folder.new"
        git archive "$commit" | tar --extract --touch --directory="$source"
        CARGO_TARGET_DIR=$build cargo build --locked "$@" --manifest-path "$source/Cargo.toml"
        cp "${processes[@]/#/$build/$kind/flashsale-}" "$folder.new"
        mv -T "$folder.new" "$folder"
    fi
    echo "$folder"
}
