#!/usr/bin/env bash
# 'make bench': compares the release build with other designs, on private servers that are removed afterwards. Does
# not touch .local/ or the processes of 'make up'. The report goes to target/bench/.
#
# CASES="a,b", production or all, SECONDS_PER_ROUND, ROUNDS, CONNECTIONS: see 'flashsale-bench run --help'. OLDER, a folder
# with the programs of another build: compares this build with it instead; see compare.sh.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "$0")/lib.sh"
cd "$root"

bench=${CARGO_TARGET_DIR:-target}/release/flashsale-bench

# Settings for 'make up' must not reach the program under test.
for name in $(setting_names) LISTEN_ADDR SYNC_DATABASE_URL SYNC_PROXY_PORT; do unset "$name"; done

install_wrk() {
    local apt='apt-get -q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends wrk'
    if ((EUID == 0)) && command -v apt-get >/dev/null; then
        say "installing wrk (Debian's package)"
        export DEBIAN_FRONTEND=noninteractive
        if $apt >/dev/null 2>&1 || { apt-get -q update && $apt; } >/dev/null 2>&1; then return; fi
    fi
    fail "wrk, which makes the load, is not on this machine, and can't be installed from here." \
        "On Debian or Ubuntu: sudo apt-get install wrk" \
        "Elsewhere: https://github.com/wg/wrk"
}
command -v wrk >/dev/null || install_wrk

cargo build --release --locked -p flashsale-api -p flashsale-expirer -p flashsale-relay -p flashsale-bench
# One case has 4,000 connections. Each is an open file of wrk and of the API. The soft limit can be raised to the hard
# limit, which only root may raise.
files=8192
if [[ $(ulimit -Sn) != unlimited ]] && (($(ulimit -Sn) < files)); then
    ulimit -Sn "$files" 2>/dev/null || ulimit -n "$files" 2>/dev/null || ulimit -Sn "$(ulimit -Hn)"
fi
# Reports invalid settings, and settings that need a higher limit, before anything is started.
"$bench" plan
# RabbitMQ only if a case has events: it takes half a minute to start, and uses CPU time.
servers=$("$bench" servers)
needed=() with_standby=
for server in $servers; do
    if [[ $server == standby ]]; then with_standby=yes; else needed+=("$server"); fi
done
deploy/local/install.sh "${needed[@]}"

# Not in /tmp, which may be in memory: there a commit does not wait for a disk.
work=$(mktemp -d "${TMPDIR:-/var/tmp}/flashsale-bench.XXXXXX")
# As root, PostgreSQL runs as another user, who must be able to enter the folder.
chmod 711 "$work"
if [[ $(stat -f -c %T "$work") == tmpfs ]]; then
    say "warning: $work is in memory, where a commit does not wait for a disk. Set TMPDIR to a folder on a disk."
fi
clean_up() {
    local unfinished
    trap '' INT TERM
    # The runner stops its servers before it exits.
    unfinished=$(jobs -pr)
    if [[ -n $unfinished ]]; then
        xargs kill <<<"$unfinished" || true
        wait || true
    fi
    for service in "${needed[@]}"; do
        deploy/local/server.sh "$service" erase "$work/$service" || true
    done
    for server in standby primary; do
        deploy/local/server.sh postgres erase "$work/$server" || true
    done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# PostgreSQL's own defaults, made explicit because the figures depend on them. The runner makes checkpoints between
# rounds.
durable='-c fsync=on -c synchronous_commit=on -c checkpoint_timeout=30min'
DATABASE_URL=$(FLASHSALE_LOCAL_POSTGRES_OPTIONS=$durable deploy/local/server.sh postgres start "$work/postgres")
REDIS_URL=$(deploy/local/server.sh redis start "$work/redis")
export DATABASE_URL REDIS_URL
if [[ " ${needed[*]} " == *" rabbitmq "* ]]; then
    AMQP_URL=$(deploy/local/server.sh rabbitmq start "$work/rabbitmq")
    export AMQP_URL
fi

# Starts a primary whose commits wait for its standby, for the cases with one. The standby tries two ports for the
# primary: first one without a listener, and then the primary's own. The runner listens at the first port with a proxy
# that simulates distance. The role may replicate, see the replication state, and end its own connections: the runner
# needs all three.
start_with_standby() {
    local primary=$work/primary standby=$work/standby data pg_basebackup url
    local -x FLASHSALE_LOCAL_POSTGRES_ROLE='replication in role pg_read_all_stats'
    # A standby that reconnects needs the WAL written meanwhile.
    local -x FLASHSALE_LOCAL_POSTGRES_OPTIONS="$durable -c wal_keep_size=1GB"
    pg_basebackup=$(postgres_bin)/pg_basebackup
    [[ -x $pg_basebackup ]] || fail "the cases with a standby need pg_basebackup, which is not in ${pg_basebackup%/*}."
    deploy/local/server.sh postgres start "$primary" >/dev/null
    # 'all' databases, which server.sh allows, does not include this one.
    echo 'host replication flashsale 127.0.0.1/32 scram-sha-256' >>"$primary/data/pg_hba.conf"
    deploy/local/server.sh postgres stop "$primary"
    FLASHSALE_LOCAL_POSTGRES_OPTIONS+=' -c synchronous_standby_names=*'
    SYNC_DATABASE_URL=$(deploy/local/server.sh postgres start "$primary")

    mkdir "$standby"
    data=$standby/data
    if [[ -L $primary/data ]]; then
        # PostgreSQL's user cannot enter a folder above, so server.sh has put the primary's data elsewhere.
        data=$(mktemp -d /var/lib/flashsale-local/XXXXXXXX)/data
        chmod 711 "${data%/*}"
        ln -s "$data" "$standby/data"
    fi
    "$pg_basebackup" --dbname="$SYNC_DATABASE_URL" --pgdata="$data" --wal-method=stream --checkpoint=fast \
        >"$standby/log" 2>&1 || {
        show_log "$standby/log"
        fail "could not make a standby."
    }
    touch "$data/standby.signal"
    chown -R --reference="$primary/data/PG_VERSION" "$data"

    SYNC_PROXY_PORT=$((20000 + RANDOM % 12000))
    while listening "$SYNC_PROXY_PORT"; do SYNC_PROXY_PORT=$((20000 + RANDOM % 12000)); done
    # The same URL with two hosts.
    url=${SYNC_DATABASE_URL/127.0.0.1:/127.0.0.1:$SYNC_PROXY_PORT,127.0.0.1:}
    FLASHSALE_LOCAL_POSTGRES_OPTIONS="$durable -c primary_conninfo=$url -c wal_retrieve_retry_interval=100"
    FLASHSALE_LOCAL_POSTGRES_OPTIONS+=" -c wal_receiver_status_interval=1"
    deploy/local/server.sh postgres start "$standby" >/dev/null
    export SYNC_DATABASE_URL SYNC_PROXY_PORT
}
if [[ -n $with_standby ]]; then start_with_standby; fi

# In the background: bash handles a signal only after a foreground command ends.
if [[ -n ${OLDER-} ]]; then "$bench" compare & else "$bench" run & fi
wait "$!"
