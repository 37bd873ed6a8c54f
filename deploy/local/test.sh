#!/usr/bin/env bash
# 'make test': what the tests need, then the tests. Arguments go to 'cargo test'.
# Servers: TEST_DATABASE_URL, TEST_REDIS_URL and TEST_AMQP_URL where set, else private ones that are gone
# afterwards. It never touches .local/ or what 'make up' runs.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "$0")/lib.sh"
cd "$root"

declare -A url_variable=([postgres]=TEST_DATABASE_URL [redis]=TEST_REDIS_URL [rabbitmq]=TEST_AMQP_URL)

# The fault tests stop and kill servers of their own, so the programs are needed whatever the URLs say.
if ! deploy/local/install.sh curl openssl "${services[@]}"; then
    for service in "${services[@]}"; do
        variable=${url_variable[$service]}
        [[ -n ${!variable-} ]] || exit 1
    done
    say "going on with the servers of TEST_*_URL; the fault tests will fail."
fi

# Settings meant for 'make up' must not reach the programs under test, least of all its servers' URLs.
for name in $(setting_names) LISTEN_ADDR; do unset "$name"; done

# The live page is tested in a real browser, where one can be had.
if [[ -z ${TEST_WEBDRIVER_URL-} ]] && ! deploy/local/install.sh chromium chromedriver; then
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
starting=()
for service in "${services[@]}"; do
    variable=${url_variable[$service]}
    if [[ -z ${!variable-} ]]; then
        FLASHSALE_LOCAL_POSTGRES_OPTIONS='-c fsync=off' \
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
if [[ -z ${TEST_WEBDRIVER_URL-} ]] && command -v chromium chromedriver >/dev/null; then
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

cargo build --locked --workspace --bins --examples
cargo test --locked --workspace "$@"

# What is chosen by arguments is chosen from the tests above.
if (($# == 0)); then
    say "the tests of traces, with the feature otel"
    cargo build --locked --workspace --all-features --bins --examples
    cargo test --locked --workspace --all-features --test it traces::
fi
