#!/usr/bin/env bash
# Kills RabbitMQ when nothing has listened on its port for RABBITMQ_START_SECONDS of cluster.env. Its supervisor starts it again.
#
# A node that loses sight of the others stops its work, and starts again within the same process once it sees them. This
# start can hang for ever: the RabbitMQ 3.10.8 and Erlang 25.2 of Debian 12 then wait for a lock of Erlang's global names
# (https://github.com/rabbitmq/rabbitmq-server/issues/6034, mended in later versions, which were not tried here). A new
# process started each time.
# Usage, in the foreground: rabbitmq-watch.sh COMMAND…, which kills it, such as: systemctl kill -s KILL rabbitmq-server
set -euo pipefail

if (($# == 0)); then
    echo "usage: rabbitmq-watch.sh COMMAND…" >&2
    exit 1
fi
limit=${RABBITMQ_START_SECONDS}
# A start that takes longer than the limit has twice the time after each kill, so that it ends at last.
patience=$limit silent=0
while sleep 1; do
    # Fails if ss does: without it, nothing is known.
    listening=$(ss -Hltn 'sport = :5672')
    if [[ -n $listening ]]; then
        patience=$limit silent=0
    elif ((++silent >= patience)); then
        echo "RabbitMQ has not listened for $patience s: killing it" >&2
        "$@" || true
        patience=$((patience * 2)) silent=0
    fi
done
