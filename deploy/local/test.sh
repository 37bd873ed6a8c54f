#!/usr/bin/env bash
# 'make test': starts what the tests need, then runs the tests. Arguments go to 'cargo test'. PG=15 to 18: only the
# tests of the rules, on a private PostgreSQL of that major version. Servers: TEST_DATABASE_URL, TEST_REDIS_URL and
# TEST_AMQP_URL if set, else private ones that are removed afterwards. Does not touch .local/ or the processes of
# 'make up'.
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
# The fault tests stop and kill private servers, so the programs are needed even if the URLs are set.
elif ! deploy/local/install.sh curl openssl psql "${services[@]}"; then
    for service in "${services[@]}"; do
        variable=${url_variable[$service]}
        [[ -n ${!variable-} ]] || exit 1
    done
    say "continuing with the servers in TEST_*_URL. The fault tests will fail."
fi

# Settings for 'make up' must not reach the programs under test, above all the URLs of its servers.
for name in $(setting_names) LISTEN_ADDR; do unset "$name"; done

# What some tests need besides the servers: programs, as install.sh knows them, and the tests without them. cargo hides
# what a test prints that passes, so the tests that are skipped are named here. Each test looks for its program in this list.
optional=(
    "plpgsql_check: its checks of the SQL functions"
    "chromium chromedriver: the tests of the live page and the documents' page in a browser"
    "promtool: the tests of the alerts"
    "haproxy: the tests of rolling restarts, upgrades and what clients see behind a balancer"
    "python3: the tests of the shop in Python"
    "java: the test of the client of openapi-generator"
    "kubectl: the test of what Kustomize makes of deploy/k8s"
    "pgbouncer: the tests through PgBouncer"
)
for line in "${optional[@]}"; do
    read -ra programs <<<"${line%%:*}"
    case ${programs[0]} in
        # A server that is somebody else's has it or not.
        plpgsql_check) [[ -z ${TEST_DATABASE_URL-} ]] || continue ;;
        chromium) [[ -z ${TEST_WEBDRIVER_URL-} ]] || continue ;;
    esac
    if [[ -z ${PG-} ]] && ! deploy/local/install.sh "${programs[@]}"; then
        say "continuing without ${programs[0]}: SKIPPED are ${line#*: }."
    fi
done
# Generated clients, the linters of the documents, and examples/ need packages of other languages.
if [[ -z ${PG-} && -z ${TEST_PYTHON_TOOLS-} ]]; then
    if folder=$(deploy/local/fetch-tools.sh python); then export TEST_PYTHON_TOOLS=$folder; else
        say "continuing without PyPI: SKIPPED are the tests of the generated Python clients, a consumer, and deploy/k8s."
    fi
fi
if [[ -z ${PG-} && -z ${TEST_NODE_TOOLS-} ]]; then
    if folder=$(deploy/local/fetch-tools.sh node); then export TEST_NODE_TOOLS=$folder; else
        say "continuing without npm: SKIPPED are the tests of the TypeScript client, a shop, a consumer, and the linters."
    fi
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/flashsale-test.XXXXXX")
# As root, PostgreSQL runs as another user, who must be able to enter the folder.
chmod 711 "$work"
clean_up() {
    local unfinished
    trap '' INT TERM
    # A server that is still starting is found by its pid file: no need to wait until it is ready.
    unfinished=$(jobs -pr)
    if [[ -n $unfinished ]]; then xargs kill <<<"$unfinished" || true; fi
    # Also ends the browsers of failed tests.
    if [[ -n ${webdriver-} ]]; then kill -- "-$webdriver" 2>/dev/null || true; fi
    for service in "${services[@]}"; do
        deploy/local/server.sh "$service" erase "$work/$service" || true
    done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# All start at the same time. The databases are temporary, so PostgreSQL need not wait for the disk. The fault tests
# start their own servers, which do wait for the disk.
#
# Only a superuser can create plpgsql_check, so server.sh does it when it creates the instance. The tests' role is not
# a superuser: permissions are not checked for a superuser, and its sessions could run any program.
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
# In its own session it leads a process group, which contains all its browsers.
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
# sqlx::test reads this variable, and creates a database per test on the same server.
export DATABASE_URL=$TEST_DATABASE_URL

# The tests of the rules need only PostgreSQL, and none of our programs.
if [[ -n ${PG-} ]]; then
    say "the rules on $("$FLASHSALE_LOCAL_POSTGRES_BIN/postgres" --version)"
    cargo test "${debug_build[@]}" --test rules "$@"
    exit
fi

cargo build "${debug_build[@]}" --bins --examples
# The end-to-end tests wait most of the time, for restarts and time limits of the servers.
RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(nproc) + 2))} cargo test "${debug_build[@]}" "$@"
