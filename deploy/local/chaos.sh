#!/usr/bin/env bash
# 'make chaos': the real processes under load and under faults, with servers of their own that are gone
# afterwards. It never touches .local/ or what 'make up' runs. MINUTES and SEED: see 'flashsale-chaos --help'.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "$0")/lib.sh"
cd "$root"

# What is wrong with the settings is said before anything is built or started.
[[ ${MINUTES-2} =~ ^[0-9]{1,4}([.][0-9]{1,3})?$ && ${MINUTES-2} =~ [1-9] ]] ||
    fail "MINUTES must be a number above 0 and below 10000, such as 2 or 0.5, not '$MINUTES'."
[[ ${SEED-0} =~ ^[0-9]{1,18}$ ]] || fail "SEED must be a whole number of at most 18 digits, not '$SEED'."

deploy/local/install.sh "${services[@]}"

# Settings meant for 'make up' must not reach the programs under test.
for name in $(setting_names) LISTEN_ADDR; do unset "$name"; done

# As 'make test' builds them, so that neither has to build again after the other.
cargo build --locked --workspace --bins --examples

# Not in /tmp, which may live in memory: what is acknowledged has to reach a disk.
work=$(mktemp -d "${TMPDIR:-/var/tmp}/flashsale-chaos.XXXXXX")
# PostgreSQL runs as another user when we are root, and has to pass through.
chmod 711 "$work"
clean_up() {
    local unfinished folder
    trap '' INT TERM
    # The program ends its processes and servers before it ends itself.
    unfinished=$(jobs -pr)
    if [[ -n $unfinished ]]; then
        xargs kill <<<"$unfinished" || true
        wait || true
    fi
    # Where it could not, its servers are found by their folders. Which service one is makes no difference here.
    for folder in "$work"/*/; do
        if [[ -d $folder ]]; then deploy/local/server.sh "${services[0]}" erase "$folder" || true; fi
    done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# In the background, because bash lets a signal wait for what runs in the foreground.
TMPDIR=$work "${CARGO_TARGET_DIR:-target}/debug/flashsale-chaos" &
wait "$!"
