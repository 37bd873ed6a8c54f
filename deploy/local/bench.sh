#!/usr/bin/env bash
# 'make bench': measures the release build against comparators, with servers of its own that are gone
# afterwards. It never touches .local/ or what 'make up' runs. The report goes to target/bench/.
#
# CASES="a,b" or all, SECONDS_PER_ROUND, ROUNDS, CONNECTIONS: see 'flashsale-bench run --help'.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "$0")/lib.sh"
cd "$root"

bench=${CARGO_TARGET_DIR:-target}/release/flashsale-bench

# Settings meant for 'make up' must not reach the program under test.
for name in $(setting_names) LISTEN_ADDR; do unset "$name"; done

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
# What is wrong with the settings is said before anything is started.
"$bench" plan
# RabbitMQ only where a case has events: it takes half a minute to start, and a share of the processors.
needed=$("$bench" servers)
read -ra needed <<<"$needed"
deploy/local/install.sh "${needed[@]}"

# Not in /tmp, which may live in memory: there a commit waits for no disk.
work=$(mktemp -d "${TMPDIR:-/var/tmp}/flashsale-bench.XXXXXX")
# PostgreSQL runs as another user when we are root, and has to pass through.
chmod 711 "$work"
if [[ $(stat -f -c %T "$work") == tmpfs ]]; then
    say "warning: $work lives in memory, where a commit waits for no disk. Set TMPDIR to a folder on a disk."
fi
clean_up() {
    local unfinished
    trap '' INT TERM
    # The runner ends its servers before it ends itself.
    unfinished=$(jobs -pr)
    if [[ -n $unfinished ]]; then
        xargs kill <<<"$unfinished" || true
        wait || true
    fi
    for service in "${needed[@]}"; do
        deploy/local/server.sh "$service" erase "$work/$service" || true
    done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# PostgreSQL's own defaults, said aloud: what the figures mean hangs on them. Checkpoints come between
# rounds, when the runner asks for them.
DATABASE_URL=$(FLASHSALE_LOCAL_POSTGRES_OPTIONS='-c fsync=on -c synchronous_commit=on -c checkpoint_timeout=30min' \
    deploy/local/server.sh postgres start "$work/postgres")
REDIS_URL=$(deploy/local/server.sh redis start "$work/redis")
export DATABASE_URL REDIS_URL
if [[ " ${needed[*]} " == *" rabbitmq "* ]]; then
    AMQP_URL=$(deploy/local/server.sh rabbitmq start "$work/rabbitmq")
    export AMQP_URL
fi

# In the background, because bash lets a signal wait for what runs in the foreground.
"$bench" run &
wait "$!"
