#!/usr/bin/env bash
# Prints the folder with tools that the tests use: clients' generators, linters, and what examples/ need. Installs them
# from PyPI or npm into target/tests if they are missing or older than their list in tests/tools.
# Usage: fetch-tools.sh {python|node}
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "$0")/lib.sh"

kind=$*
case $kind in
    python) list=$root/tests/tools/requirements.txt needed=(python3) ;;
    node) list=$root/tests/tools/package.json needed=(node npm) ;;
    *) fail "fetch-tools.sh knows the tools for python and node, not for '$kind'." ;;
esac
for program in "${needed[@]}"; do
    command -v "$program" >/dev/null || fail "$program is not on this machine."
done

folder=$root/target/tests/$kind
mkdir -p "${folder%/*}"
exec {lock}>"${folder%/*}/lock"
flock -w 600 "$lock" || fail "another fetch-tools.sh has been busy for too long."

if ! cmp -s "$list" "$folder/installed"; then
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    say "fetching tools for the tests (${list#"$root"/}; a minute or two)"
    rm -rf "$folder"
    mkdir "$folder"
    if [[ $kind == python ]]; then
        python3 -m venv "$folder" &&
            "$folder/bin/pip" install -q --disable-pip-version-check -r "$list"
    else
        cp "$list" "$folder/package.json"
        # Scripts of packages are not run: none of these needs its own.
        npm install --prefix "$folder" --ignore-scripts --no-package-lock --no-audit --no-fund --loglevel=error
    fi >"$log" 2>&1 || {
        show_log "$log"
        fail "the tools of ${list#"$root"/} can't be had; see above."
    }
    cp "$list" "$folder/installed"
fi
echo "$folder"
