#!/usr/bin/env bash
# 'make chaos': the real processes under load and faults, on private servers that are removed afterwards. Does not
# touch .local/ or the processes of 'make up'. MINUTES and SEED: see 'flashsale-chaos --help'.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "$0")/lib.sh"
cd "$root"

# Reports invalid settings before anything is built or started.
[[ ${MINUTES-2} =~ ^[0-9]{1,4}([.][0-9]{1,3})?$ && ${MINUTES-2} =~ [1-9] ]] ||
    fail "MINUTES must be a number above 0 and below 10000, such as 2 or 0.5, not '$MINUTES'."
[[ ${SEED-0} =~ ^[0-9]{1,18}$ ]] || fail "SEED must be a whole number of at most 18 digits, not '$SEED'."

deploy/local/install.sh "${services[@]}"

# Settings for 'make up' must not reach the programs under test.
for name in $(setting_names) LISTEN_ADDR; do unset "$name"; done

cargo build "${debug_build[@]}" --bins --examples

# Not in /tmp, which may be in memory: acknowledged work must reach a disk.
work=$(mktemp -d "${TMPDIR:-/var/tmp}/flashsale-chaos.XXXXXX")
# As root, PostgreSQL runs as another user, who must be able to enter the folder.
chmod 711 "$work"
clean_up() {
    local unfinished folder
    trap '' INT TERM
    # The program stops its processes and servers before it exits.
    unfinished=$(jobs -pr)
    if [[ -n $unfinished ]]; then
        xargs kill <<<"$unfinished" || true
        wait || true
    fi
    # If it could not, its servers are found by their folders. 'kill' works the same for every service.
    for folder in "$work"/*/; do
        if [[ -d $folder ]]; then deploy/local/server.sh "${services[0]}" erase "$folder" || true; fi
    done
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# In the background: bash handles a signal only after a foreground command ends.
TMPDIR=$work "${CARGO_TARGET_DIR:-target}/debug/flashsale-chaos" &
wait "$!"
