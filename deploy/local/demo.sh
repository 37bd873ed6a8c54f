#!/usr/bin/env bash
# 'make demo': a sale of 90 s on the system of 'make up', with shoppers that use its HTTP API. SHOPPERS,
# SALE_SECONDS and SEED: see 'flashsale-demo --help'.
#
# FLASHSALE_URL, with ADMIN_TOKEN and API_KEY if needed, selects another API. The demo's products stay there.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "$0")/lib.sh"
cd "$root"

# Reports invalid settings before anything is built.
# whole NAME VALUE MIN MAX
whole() {
    if [[ ! $2 =~ ^[1-9][0-9]{0,8}$ ]] || (($2 < $3 || $2 > $4)); then
        fail "$1 must be a whole number from $3 to $4, not '$2'."
    fi
}
whole SHOPPERS "${SHOPPERS-5000}" 10 50000
whole SALE_SECONDS "${SALE_SECONDS-90}" 5 600
[[ ${SEED-0} =~ ^[0-9]{1,18}$ ]] || fail "SEED must be a whole number of at most 18 digits, not '$SEED'."

# The token belongs to the local API. It must not be sent to another one.
if [[ -z ${FLASHSALE_URL-} ]]; then
    unset FLASHSALE_URL
    if [[ -z ${ADMIN_TOKEN-} && -f .local/env ]]; then
        # shellcheck source=/dev/null
        . .local/env
    fi
fi
url=${FLASHSALE_URL-http://127.0.0.1:8080}
[[ $url =~ ^http://[^/@]+/?$ ]] || fail "FLASHSALE_URL must be http://HOST:PORT and no more."
curl -s --noproxy '*' --max-time 5 -o /dev/null "$url/livez" ||
    fail "nothing answers at $url: run 'make up' first, or say where the API is with FLASHSALE_URL"

build_release
exec "${CARGO_TARGET_DIR:-target}/release/flashsale-demo"
