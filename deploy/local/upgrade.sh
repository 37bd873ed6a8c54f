#!/usr/bin/env bash
# 'make upgrade': upgrades two copies of an older release to this one under load and back, as docs/versions.md says, and
# fails if a request fails. FROM names the older release for git: a commit, or a tag, once there is one. Or it is a folder
# with the programs. Without it: the newest tag before this commit, or, if there is none, the last commit before the newest
# migration.
#
# The older release is built in target/upgrade, and kept there. Its source is a copy: no branch and no worktree is made.
# Servers: as in 'make test'.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "$0")/lib.sh"
cd "$root"

older_release
deploy/local/install.sh haproxy
# --workspace, as in 'make test': so both builds have dependencies with the same features.
UPGRADE_FROM=$(build_older --workspace --bins)

say "upgrading from $from"
# No browser and no packages of other languages are needed.
export UPGRADE_FROM TEST_WEBDRIVER_URL=none TEST_PYTHON_TOOLS=none TEST_NODE_TOOLS=none
exec deploy/local/test.sh --test end_to_end -- --exact --nocapture connections::upgrade::an_upgrade_under_load_fails_no_request
