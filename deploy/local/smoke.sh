#!/usr/bin/env bash
# The main function of the service over HTTP: reserve one unit, confirm it, and receive the event. Needs AMQP_URL.
# API_URL defaults to http://127.0.0.1:8080. ADMIN_TOKEN is used if set.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "$0")/lib.sh"
cd "$root"

api=${API_URL:-http://127.0.0.1:8080}
consumer=${CARGO_TARGET_DIR:-target}/release/examples/consumer
event_seconds=30
[[ -n ${AMQP_URL-} ]] || fail "AMQP_URL is not set. After 'make up': source .local/env"
[[ -x $consumer ]] || fail "$consumer is not built. Run: make up"

work=$(mktemp -d)
clean_up() {
    if [[ -n ${consumer_pid-} ]]; then kill "$consumer_pid" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap clean_up EXIT

# post PATH EXPECTED_STATUS [JSON]: prints the answer's body. The token is passed in a file, because every user of the
# machine can read command lines.
post() {
    local path=$1 expected=$2 answer options=()
    if (($# > 2)); then options+=(-H 'Content-Type: application/json' --data "$3"); fi
    answer=$(curl -sS --noproxy '*' --max-time 10 -X POST -w '\n%{http_code}' \
        -H @<(if [[ -n ${ADMIN_TOKEN-} ]]; then printf 'Authorization: Bearer %s\n' "$ADMIN_TOKEN"; fi) \
        "${options[@]}" "$api$path") || fail "no answer from $api$path"
    [[ ${answer##*$'\n'} == "$expected" ]] || fail "POST $path answered ${answer##*$'\n'}, not $expected:" "${answer%$'\n'*}"
    printf '%s\n' "${answer%$'\n'*}"
}

# field NAME JSON: prints the first number or string with that name.
field() {
    local pattern="\"$1\" *: *(\"([^\"]*)\"|[0-9]+)"
    [[ $2 =~ $pattern ]] || fail "the answer has no field '$1':" "$2"
    if [[ -n ${BASH_REMATCH[2]} ]]; then echo "${BASH_REMATCH[2]}"; else echo "${BASH_REMATCH[1]}"; fi
}

consumer_says() { grep -qE "$1" "$work/events" || ! kill -0 "$consumer_pid" 2>/dev/null; }

# expect SECONDS WHAT PATTERN: waits for a line from the consumer.
expect() {
    wait_until "$1" "$2" consumer_says "$3" || true
    if ! grep -qE "$3" "$work/events"; then
        show_log "$work/events"
        fail "waited in vain for $2 (at most $1 s)."
    fi
}

# The consumer starts first, on a temporary queue of its own, so that it takes no event from others.
: >"$work/events"
"$consumer" --tap --timeout-seconds $((event_seconds * 3)) >"$work/events" 2>&1 &
consumer_pid=$!
expect "$event_seconds" "the example consumer to listen" '^ready$'

product=$(post /products 201 '{"name":"smoke test","stock":1}')
product_id=$(field id "$product")
say "1. created product $product_id with $(field stock "$product") unit in stock"

reservation=$(post /reservations 201 "{\"product_id\":$product_id,\"user_id\":42}")
id=$(field id "$reservation")
say "2. reserved it for user 42: reservation $id is $(field status "$reservation"), held until $(field expires_at "$reservation")"

reservation=$(post "/reservations/$id/confirm" 200)
say "3. confirmed the reservation: it is now $(field status "$reservation")"

event="\"reservation_id\" *: *${id}[,}]"
expect "$event_seconds" "the event of reservation $id" "$event"
say "4. its event arrived through RabbitMQ:"
grep -E "$event" "$work/events" | head -n 1 | sed 's/^/     /' >&2
