#!/usr/bin/env bash
# 'make test': what the tests need, then the tests. Arguments go to 'cargo test'.
# PG=15 to 18: the rules' tests only, on a private PostgreSQL of that major version.
# Servers: TEST_DATABASE_URL, TEST_REDIS_URL and TEST_AMQP_URL where set, else private ones that are gone
# afterwards. It never touches .local/ or what 'make up' runs.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "$0")/lib.sh"
cd "$root"

declare -A url_variable=([postgres]=TEST_DATABASE_URL [redis]=TEST_REDIS_URL [rabbitmq]=TEST_AMQP_URL)

needed=("${services[@]}")
if [[ -n ${PG-} ]]; then
    FLASHSALE_LOCAL_POSTGRES_BIN=$(deploy/local/fetch-postgres.sh "$PG")
    export FLASHSALE_LOCAL_POSTGRES_BIN
    unset TEST_DATABASE_URL
    needed=(postgres)
# The fault tests stop and kill servers of their own, so the programs are needed whatever the URLs say.
elif ! deploy/local/install.sh curl openssl psql "${services[@]}"; then
    for service in "${services[@]}"; do
        variable=${url_variable[$service]}
        [[ -n ${!variable-} ]] || exit 1
    done
    say "going on with the servers of TEST_*_URL; the fault tests will fail."
fi

# Settings meant for 'make up' must not reach the programs under test, least of all its servers' URLs.
for name in $(setting_names) LISTEN_ADDR; do unset "$name"; done

# The tests check the SQL functions with this extension of PostgreSQL, where it can be installed.
if [[ -z ${PG-} && -z ${TEST_DATABASE_URL-} ]] && ! deploy/local/install.sh plpgsql_check; then
    say "going on without plpgsql_check: the checks of the SQL functions by it are SKIPPED."
fi
# The live page is tested in a real browser, where one can be had.
if [[ -z ${PG-} && -z ${TEST_WEBDRIVER_URL-} ]] && ! deploy/local/install.sh chromium chromedriver; then
    say "going on without Chromium: the tests of the live page in a browser are SKIPPED."
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/flashsale-test.XXXXXX")
# PostgreSQL runs as another user when we are root, and has to pass through.
chmod 711 "$work"
clean_up() {
    local unfinished
    trap '' INT TERM
    # A server that is still starting is found by its pid file: nobody has to wait for it to be ready.
    unfinished=$(jobs -pr)
    if [[ -n $unfinished ]]; then xargs kill <<<"$unfinished" || true; fi
    # With the browsers of stories that failed.
    if [[ -n ${webdriver-} ]]; then kill -- "-$webdriver" 2>/dev/null || true; fi
    for service in "${services[@]}"; do
        deploy/local/server.sh "$service" erase "$work/$service" || true
    done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# All start at once. The databases are thrown away, so PostgreSQL need not wait for the disk here; the fault
# tests' own servers, which are not started from here, keep their durability.
#
# Only a superuser can create plpgsql_check. server.sh does it while it makes the instance, so the tests' role stays
# an ordinary one: permissions would not be checked for a superuser, and its sessions could run any program.
starting=()
for service in "${needed[@]}"; do
    variable=${url_variable[$service]}
    if [[ -z ${!variable-} ]]; then
        FLASHSALE_LOCAL_POSTGRES_OPTIONS='-c fsync=off' FLASHSALE_LOCAL_POSTGRES_EXTENSIONS=plpgsql_check \
            deploy/local/server.sh "$service" start "$work/$service" >"$work/$service.url" &
        starting+=("$service:$!")
    fi
done
for started in "${starting[@]}"; do
    service=${started%:*} variable=${url_variable[${started%:*}]}
    wait "${started#*:}" || fail "no $service for the tests; see above."
    export "$variable=$(<"$work/$service.url")"
done
# Its own session makes it the leader of a group, which all its browsers belong to.
if [[ -z ${PG-} && -z ${TEST_WEBDRIVER_URL-} ]] && command -v chromium chromedriver >/dev/null; then
    : >"$work/chromedriver.log"
    TMPDIR=$work setsid chromedriver --port=0 >"$work/chromedriver.log" 2>&1 &
    webdriver=$!
    for ((tenths = 0; tenths < 300; tenths++)); do
        port=$(sed -nE 's/.* started successfully on port ([0-9]+).*/\1/p' "$work/chromedriver.log")
        if [[ -n $port ]]; then break; fi
        sleep 0.1
    done
    if [[ -z ${port-} ]]; then
        cat "$work/chromedriver.log" >&2
        fail "ChromeDriver does not start; see above."
    fi
    export TEST_WEBDRIVER_URL=http://127.0.0.1:$port
fi
# sqlx::test reads this name, and makes a database for each test beside the one that it names.
export DATABASE_URL=$TEST_DATABASE_URL

# The rules need no server but PostgreSQL, and none of our programs. With --workspace, what 'make test' has built is
# used again: with -p inventory, dependencies would have fewer features, and cargo would build them anew.
if [[ -n ${PG-} ]]; then
    say "the rules on $("$FLASHSALE_LOCAL_POSTGRES_BIN/postgres" --version)"
    cargo test --locked --workspace --test rules "$@"
    exit
fi

cargo build --locked --workspace --bins --examples
cargo test --locked --workspace "$@"

# What is chosen by arguments is chosen from the tests above.
if (($# == 0)); then
    say "the tests of traces, with the feature otel"
    cargo build --locked --workspace --all-features --bins --examples
    cargo test --locked --workspace --all-features --test it traces::
fi
