#!/usr/bin/env bash
# 'make upgrade': upgrades two copies of an older release to this one under load, as docs/versions.md says, and fails if a
# request fails. FROM names the older release for git: a commit, or a tag, once there is one. Without it: the newest tag before this commit, or, if
# there is none, the last commit before the newest migration.
#
# The older release is built in target/upgrade, and kept there. Its source is a copy: no branch and no worktree is made.
# Servers: as in 'make test'.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "$0")/lib.sh"
cd "$root"

programs=(flashsale-api flashsale-expirer flashsale-relay)

# older_release: prints the release to upgrade from, if FROM does not say it.
older_release() {
    local newest
    git describe --tags --abbrev=0 --match 'v[0-9]*' HEAD^ 2>/dev/null && return
    newest=$(git ls-files 'migrations/*.up.sql' | tail -n 1)
    newest=$(git log -1 --format=%H --diff-filter=A -- "$newest")
    [[ -n $newest ]] && echo "$newest^"
}

# build COMMIT FOLDER: builds the programs of a commit, and puts them there.
build() {
    local source=$root/target/upgrade/source
    say "building the programs of $from (minutes)"
    # Every file gets the time of now: cargo must not take the files of another commit for these.
    rm -rf "$source"
    mkdir -p "$source"
    git archive "$1" | tar --extract --touch --directory="$source"
    # --workspace, as in 'make test': so both builds have dependencies with the same features.
    CARGO_TARGET_DIR=$root/target/upgrade/build cargo build --locked --workspace --bins --manifest-path "$source/Cargo.toml"
    mkdir -p "$2.new"
    cp "${programs[@]/#/$root/target/upgrade/build/debug/}" "$2.new"
    mv -T "$2.new" "$2"
}

from=${FROM:-$(older_release)} || fail "no older release: there is no tag, and no history of the migrations." \
    "Name it: make upgrade FROM=COMMIT"
commit=$(git rev-parse --verify --quiet "$from^{commit}") || fail "FROM: git knows no commit '$from'."
deploy/local/install.sh haproxy
folder=$root/target/upgrade/$commit
if [[ ! -d $folder ]]; then build "$commit" "$folder"; fi

say "upgrading from $from ($(git log -1 --format='%h %s' "$commit"))"
# No browser and no packages of other languages are needed.
UPGRADE_FROM=$folder TEST_WEBDRIVER_URL=none TEST_PYTHON_TOOLS=none TEST_NODE_TOOLS=none \
    exec deploy/local/test.sh --test end_to_end -- --exact --nocapture \
    connections::upgrade::an_upgrade_under_load_fails_no_request
