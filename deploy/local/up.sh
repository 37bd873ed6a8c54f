#!/usr/bin/env bash
# 'make up': the whole system on this machine, from the servers to a first sale. See 'make help' and README.md. State
# is in .local/. It may be run again at any time, also after an interruption.
#
# Addresses can be changed: LISTEN_ADDR (the API, 127.0.0.1:8080), EXPIRER_LISTEN_ADDR (127.0.0.1:8081),
# RELAY_LISTEN_ADDR (127.0.0.1:8082).
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "$0")/lib.sh"
cd "$root"

here=deploy/local
state=$root/.local
binaries=${CARGO_TARGET_DIR:-target}/release
ready_seconds=60
declare -A url_variable=([postgres]=DATABASE_URL [redis]=REDIS_URL [rabbitmq]=AMQP_URL)
declare -A listen_addr=(
    [api]=${LISTEN_ADDR:-127.0.0.1:8080}
    [expirer]=${EXPIRER_LISTEN_ADDR:-127.0.0.1:8081}
    [relay]=${RELAY_LISTEN_ADDR:-127.0.0.1:8082}
)
declare -A address_variable=([api]=LISTEN_ADDR [expirer]=EXPIRER_LISTEN_ADDR [relay]=RELAY_LISTEN_ADDR)

main() {
    local service process
    mkdir -p "$state/run" "$state/log"
    exec {lock}>"$state/lock"
    flock -n "$lock" || fail "another 'make up' or 'make down' is at work here. Wait for it to end."
    # Fast checks come before slow work.
    command -v cargo >/dev/null || fail "cargo is not on the PATH. Install Rust first: https://rustup.rs"
    for process in "${processes[@]}"; do check_address "$process"; done
    "$here/install.sh" curl

    say "== services"
    for service in "${services[@]}"; do provide "$service"; done
    write_env

    say "== build"
    build_release
    say "== migrations"
    "$binaries/flashsale-api" migrate

    say "== processes"
    for process in "${processes[@]}"; do start "$process"; done
    for process in "${processes[@]}"; do
        wait_until "$ready_seconds" "$process" is_ready_or_gone "$process" || not_ready "$process"
        running "$state/run/$process.pid" >/dev/null || not_ready "$process"
        say "$process is ready at $(base_url "$process")"
    done

    say "== a first sale over HTTP"
    API_URL=$(base_url api) "$here/smoke.sh"
    show_what_next
}

check_address() {
    local port=${listen_addr[$1]##*:}
    if ! running "$state/run/$1.pid" >/dev/null && listening "$port"; then
        fail "port $port, where the $1 should listen, is taken by another program." \
            "See which one: ss -ltnp 'sport = :$port'" \
            "End it, or choose another address: ${address_variable[$1]}=127.0.0.1:PORT make up"
    fi
}

# Services ---------------------------------------------------------------------------------------------

# provide SERVICE: exports its URL, from the first source that works. A URL that an earlier run wrote to .local/env
# does not count as set by the user, even if the user has sourced that file: the user wants the same server, started.
provide() {
    local service=$1 variable=${url_variable[$1]} url place own_url=$state/run/$1.url
    url=${!variable-}
    if [[ -n $url && $url != "$(cat "$own_url" 2>/dev/null)" ]]; then
        say "$service: from $variable in the environment"
        return
    fi
    if url=$("$here/server.sh" "$service" status "$state/$service"); then
        say "$service: already running, with its data in .local/$service"
        place=private
    else
        place=$(place_of "$service")
        if [[ -z $place ]] && docker_answers && provide_by_compose "$service"; then
            place=docker
        elif [[ $place == docker ]]; then
            docker_answers || fail "the data of $service are in Docker, and Docker does not answer." \
                "Start Docker. Or begin anew without these data: rm .local/run/$service.place"
            provide_by_compose "$service" || fail "the data of $service are in Docker, which cannot start it." \
                "See why: docker compose logs $service. Or begin anew without these data: rm .local/run/$service.place"
        else
            place=private
        fi
        if [[ $place == docker ]]; then
            url=$(compose_url "$service")
            say "$service: in Docker, from docker-compose.yml"
        else
            "$here/install.sh" "$service"
            url=$("$here/server.sh" "$service" start "$state/$service")
            say "$service: a private server, with its data in .local/$service"
        fi
    fi
    echo "$place" >"$state/run/$service.place"
    echo "$url" >"$own_url"
    export "$variable=$url"
}

# place_of SERVICE: where an earlier run has put its data: docker or private. Nothing if there was none. Otherwise the
# data would seem to be gone as soon as Docker comes or goes.
place_of() {
    local place=''
    if [[ -e $state/run/$1.place ]]; then place=$(<"$state/run/$1.place"); fi
    # An older version wrote no such file.
    if [[ -z $place && -d $state/$1 ]]; then place=private; fi
    if [[ $place == private ]] && docker_answers; then
        say "$1: not in Docker, because its data are in .local/$1 (to move to Docker: $here/server.sh $1 erase .local/$1; rm .local/run/$1.place)"
    fi
    echo "$place"
}

docker_answers() {
    if [[ -z ${docker_works-} ]]; then
        docker_works=no
        # If the Docker daemon hangs, this script must not hang.
        if [[ -f docker-compose.yml ]] && timeout 5 docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1; then
            docker_works=yes
        fi
    fi
    [[ $docker_works == yes ]]
}

# Containers that were started elsewhere are used, but not recorded: 'make down' stops only recorded ones.
provide_by_compose() {
    local project other
    project=$(docker compose config 2>/dev/null | sed -n 's/^name: //p')
    other=$(docker ps -a --filter "label=com.docker.compose.project=$project" \
        --format '{{.Label "com.docker.compose.project.working_dir"}}' | grep -vxF -m 1 -- "$root") &&
        fail "the containers of $other have the same project name as this folder's: $project." \
            "Choose another one for this folder: export COMPOSE_PROJECT_NAME=$project-2"
    if [[ -n $(docker compose ps -q --status running "$1" 2>/dev/null) ]]; then return; fi
    touch "$state/run/$1.compose"
    if ! docker compose up -d --wait "$1"; then
        say "$1: Docker could not start it; trying without Docker."
        docker compose stop "$1" >/dev/null 2>&1 || true
        rm -f "$state/run/$1.compose"
        return 1
    fi
}

# Ask Docker for the port, because both .env and the environment may change it.
compose_url() {
    case $1 in
        postgres) echo "postgres://flashsale:flashsale@$(docker compose port "$1" 5432)/flashsale" ;;
        redis) echo "redis://$(docker compose port "$1" 6379)/0" ;;
        rabbitmq) echo "amqp://guest:guest@$(docker compose port "$1" 5672)/%2f" ;;
    esac
}

# The file contains passwords. It is replaced atomically.
write_env() {
    local name
    (
        umask 077
        for name in DATABASE_URL REDIS_URL AMQP_URL ADMIN_TOKEN; do
            if [[ -n ${!name-} ]]; then printf "export %s='%s'\n" "$name" "${!name//\'/\'\\\'\'}"; fi
        done >"$state/env.new"
    )
    mv "$state/env.new" "$state/env"
}

# Processes --------------------------------------------------------------------------------------------

# fingerprint PROCESS: changes when the program or one of its settings changes. A hash, because the settings include
# ADMIN_TOKEN and passwords.
fingerprint() {
    local name
    {
        stat -c '%i %y %s' "$binaries/flashsale-$1"
        for name in $(setting_names); do echo "$name=${!name-}"; done
        echo "${listen_addr[$1]}"
    } | sha256sum
}

start() {
    local pid_file=$state/run/$1.pid print=$state/run/$1.fingerprint
    if running "$pid_file" >/dev/null; then
        if [[ $(fingerprint "$1") == "$(cat "$print" 2>/dev/null)" ]] && wait_until 10 "$1" is_ready "$1"; then
            return
        fi
        say "restarting $1: its program or settings have changed, or it is not healthy"
        stop_process "$pid_file" TERM "${SHUTDOWN_SECONDS:-60}" || kill_process "$pid_file"
    fi
    fingerprint "$1" >"$print"
    # No load balancer has to learn about a restart.
    launch "$pid_file" "$state/log/$1.log" env LISTEN_ADDR="${listen_addr[$1]}" DRAIN_SECONDS="${DRAIN_SECONDS:-0}" "$binaries/flashsale-$1"
}

# base_url PROCESS: its URL on this machine, also if it listens on every interface.
base_url() {
    local host=${listen_addr[$1]%:*}
    if [[ $host == 0.0.0.0 || $host == '[::]' ]]; then host=127.0.0.1; fi
    echo "http://$host:${listen_addr[$1]##*:}"
}

is_ready() { curl -fsS --noproxy '*' --max-time 2 -o /dev/null "$(base_url "$1")/readyz" 2>/dev/null; }

is_ready_or_gone() { ! running "$state/run/$1.pid" >/dev/null || is_ready "$1"; }

not_ready() {
    show_log "$state/log/$1.log"
    # Its answer names the missing dependency.
    say "  $(base_url "$1")/readyz answers: $(curl -sS --noproxy '*' --max-time 2 "$(base_url "$1")/readyz" 2>&1)"
    fail "the $1 did not become ready." "Run 'make up' again once the cause is gone; it carries on from here."
}

show_what_next() {
    local post token=''
    post="curl -s -H 'Content-Type: application/json'"
    # shellcheck disable=SC2016 # Its name, not its value: the shell that has sourced .local/env fills it in.
    if [[ -n ${ADMIN_TOKEN-} ]]; then token=' -H "Authorization: Bearer $ADMIN_TOKEN"'; fi
    cat <<-END

		flashsale is up.
		  live page $(base_url api)/
		  API       $(base_url api)        (also /docs, /readyz, /metrics)
		  expirer   $(base_url expirer)
		  relay     $(base_url relay)
		  settings  .local/env        logs  .local/log/

		Try next:
		  source .local/env
		  $post$token $(base_url api)/products -d '{"name":"iPhone 15","stock":10}'
		  $post $(base_url api)/reservations -d '{"product_id":ID,"user_id":42}'      (ID: from the answer above)
		  psql "\$DATABASE_URL" -c 'select * from products'
		  make demo
		  make down
	END
}

main
