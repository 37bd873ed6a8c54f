#!/usr/bin/env bash
# 'make compare': the processor time of a request by an older release and by this one, in alternating rounds on the same
# servers. FROM: as for 'make upgrade'. CASES: whose side of ours is compared (see 'make bench'); a hot product if unset.
# ROUNDS, SECONDS_PER_ROUND, CONNECTIONS: as for 'make bench'. The older release is built in target/upgrade, and kept there.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "$0")/lib.sh"
cd "$root"

older_release
# The same packages as in bench.sh: so the dependencies of both builds have the same features.
OLDER=$(build_older --release -p flashsale-api -p flashsale-expirer -p flashsale-relay -p flashsale-bench)
say "comparing with $from"
export OLDER CASES=${CASES:-hot_reserve/noop} ROUNDS=${ROUNDS:-10}
exec deploy/local/bench.sh
