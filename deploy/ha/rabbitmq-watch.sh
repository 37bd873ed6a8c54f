#!/usr/bin/env bash
# Kills RabbitMQ when nothing has listened on its port for RABBITMQ_START_SECONDS of cluster.env. Its supervisor starts it again.
#
# A node that loses sight of the others stops its work, and starts again within the same process once it sees them. This
# start can hang for ever: the RabbitMQ 3.10.8 and Erlang 25.2 of Debian 12 then wait for a lock of Erlang's global names
# (https://github.com/rabbitmq/rabbitmq-server/issues/6034). A new process does not.
# Usage, in the foreground: rabbitmq-watch.sh COMMAND…, which kills it, such as: systemctl kill -s KILL rabbitmq-server
set -euo pipefail

seen=$SECONDS
while sleep 1; do
    listening=$(ss -Hltn 'sport = :5672')
    if [[ -n $listening ]]; then
        seen=$SECONDS
    elif ((SECONDS - seen >= ${RABBITMQ_START_SECONDS})); then
        echo "RabbitMQ does not listen: killing it" >&2
        "$@" || true
        seen=$SECONDS
    fi
done
