#!/usr/bin/env bash
# 'make circles': no module of any crate uses itself by way of others. Takes two minutes.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "$0")/lib.sh"
cd "$root"

command -v cargo-modules >/dev/null || fail "cargo-modules is not installed (cargo install cargo-modules --version 0.27.0 --locked)."
only_uses=(--no-externs --no-sysroot --no-fns --no-traits --no-types --no-owns)
targets=(
    "flashsale-api --lib" "flashsale-expirer --lib" "flashsale-relay --lib"
    "http-server --lib" "inventory --lib" "lanes --lib" "live --lib" "presence --lib" "runtime --lib" "timer --lib" "trace --lib"
    "flashsale-bench --bin flashsale-bench" "flashsale-demo --bin flashsale-demo" "flashsale-tests --lib"
)
circles=
for target in "${targets[@]}"; do
    read -ra arguments <<<"$target"
    # The tool's own --acyclic also counts a type and its method as a circle.
    uses=$(cargo modules dependencies --package "${arguments[@]}" "${only_uses[@]}" |
        sed -n 's/^ *"\([^"]*\)" -> "\([^"]*\)".*/\1 \2/p' | awk '$1 != $2')
    if circle=$(tsort <<<"$uses" 2>&1 >/dev/null); then
        say "${arguments[0]}: no circle"
    else
        say "${arguments[0]}: a circle" "$circle"
        circles=yes
    fi
done
[[ -z $circles ]]
