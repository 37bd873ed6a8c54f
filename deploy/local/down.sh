#!/usr/bin/env bash
# 'make down': stops what 'make up' started, and nothing else. Keeps the data.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "$0")/lib.sh"
cd "$root"

state=$root/.local
if [[ ! -d $state/run ]]; then
    say "nothing to stop: 'make up' has not run here."
    exit 0
fi
exec {lock}>"$state/lock"
flock -n "$lock" || fail "another 'make up' or 'make down' is at work here. Wait for it to end."

# The API first, so that no new requests arrive while the others finish their work.
for process in "${processes[@]}"; do
    pid_file=$state/run/$process.pid
    if running "$pid_file" >/dev/null; then
        if ! stop_process "$pid_file" TERM "${SHUTDOWN_SECONDS:-60}"; then
            say "$process did not stop in time; killing it."
            kill_process "$pid_file"
        fi
        say "stopped $process"
    fi
    rm -f "$pid_file"
done

for service in "${services[@]}"; do
    if deploy/local/server.sh "$service" status "$state/$service" >/dev/null; then
        deploy/local/server.sh "$service" stop "$state/$service"
        say "stopped $service"
    fi
    if [[ -e $state/run/$service.compose ]]; then
        docker compose stop "$service"
        rm "$state/run/$service.compose"
        say "stopped $service in Docker"
        in_docker=yes
    fi
done

say "The data stay. To erase them:"
for service in "${services[@]}"; do
    if [[ -d $state/$service ]]; then say "  deploy/local/server.sh $service erase .local/$service"; fi
done
if [[ -n ${in_docker-} ]]; then say "  docker compose down --volumes"; fi
