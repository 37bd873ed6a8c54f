#!/usr/bin/env bash
# 'make containers': builds the image, starts everything in containers with a project name and ports of its own, makes a
# first sale, and removes them with their data. BUILD_IMAGE and RUN_IMAGE may name other base images,
# POSTGRES_IMAGE, REDIS_IMAGE and RABBITMQ_IMAGE other images of the servers.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "$0")/lib.sh"
cd "$root"

if ! timeout 10 docker info >/dev/null 2>&1 || ! docker compose version >/dev/null 2>&1; then
    say "containers: SKIPPED, because no Docker engine with Compose 2 answers here (Debian 13: docker.io docker-buildx docker-compose)"
    exit 0
fi

# The symbols alone would be more than 200 MB.
max_megabytes=120
image=flashsale:dev
export COMPOSE_PROJECT_NAME=flashsale-containers-$$
ADMIN_TOKEN=$(od -An -tx1 -N16 /dev/urandom | tr -d ' \n')
export ADMIN_TOKEN
for port in POSTGRES_PORT REDIS_PORT AMQP_PORT API_PORT; do
    number=$((20000 + RANDOM % 12000))
    while listening "$number"; do number=$((20000 + RANDOM % 12000)); done
    export "$port=$number"
done
compose=(docker compose --profile app)

clean_up() {
    local status=$?
    if ((status != 0)); then "${compose[@]}" logs --tail 20 >&2 || true; fi
    "${compose[@]}" down --volumes --timeout 30 >/dev/null 2>&1 || true
}
trap clean_up EXIT

say "== build"
build_args=()
for name in BUILD_IMAGE RUN_IMAGE; do
    if [[ -n ${!name-} ]]; then build_args+=(--build-arg "$name=${!name}"); fi
done
docker build -f deploy/Dockerfile "${build_args[@]}" -t "$image" .
megabytes=$(($(docker image inspect --format '{{.Size}}' "$image") / 1000000))
((megabytes <= max_megabytes)) || fail "the image has $megabytes MB, more than $max_megabytes."
say "the image has $megabytes MB"

say "== start"
# A setting of the caller must reach its process.
HOLD_SECONDS=77 "${compose[@]}" up -d --no-build --wait
for process in "${processes[@]}"; do
    "${compose[@]}" exec -T "$process" "flashsale-$process" healthy || fail "the $process is not healthy."
done

say "== a first sale"
post() {
    curl -fsS --noproxy '*' --max-time 10 -H "Authorization: Bearer $ADMIN_TOKEN" -H 'Content-Type: application/json' \
        -X POST "http://127.0.0.1:$API_PORT$1" --data "$2"
    echo
}
ask() { "${compose[@]}" exec -T postgres psql -U flashsale -Atc "$1"; }
post /products '{"name":"iPhone 15","stock":10}'
post /reservations '{"product_id":1,"user_id":42}'
post /reservations/1/confirm '{}'
published() { [[ $(ask 'select count(*) from outbox_events where published_at is not null') == 1 ]]; }
wait_until 30 "the event" published || fail "the event was not published."
seconds=$(ask 'select round(extract(epoch from expires_at - created_at)) from reservations')
[[ $seconds == 77 ]] || fail "HOLD_SECONDS=77 did not reach the API: a hold lasts $seconds s."

say "== health"
"${compose[@]}" stop postgres
unhealthy() { ! "${compose[@]}" exec -T "$1" "flashsale-$1" healthy >/dev/null 2>&1; }
for process in "${processes[@]}"; do
    wait_until 30 "the $process to be unhealthy" unhealthy "$process" || fail "the $process is healthy without PostgreSQL."
done

say "== stop"
"${compose[@]}" down
left=$(docker ps -q --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME")
[[ -z $left ]] || fail "containers are left."
say "containers: all is well"
