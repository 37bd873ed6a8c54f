#!/usr/bin/env bash
# One part of one machine of 'make ha', in the foreground: becomes the program. The commands are those of
# deploy/ha/README.md, with what a machine of its own would have in /etc and in its users' folders.
# Usage: ha-part.sh {etcd|patroni|rabbitmq|rabbitmq-watch|redis|sentinel|haproxy} MACHINE_FOLDER, in the machine's network namespace
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "$0")/lib.sh"

part=$1 folder=$2
# RabbitMQ writes files beside itself, and PostgreSQL fails if its user cannot enter the working directory.
cd "$folder/data"
case $part in
    etcd) exec etcd --config-file "$folder/etcd.yml" ;;
    patroni)
        find_postgres_owner
        # The tools may be in a folder that PostgreSQL's user cannot enter, so ha.sh has mounted them beside the machines.
        exec "${as_owner[@]}" env PYTHONPATH="$folder/../patroni" PYTHONDONTWRITEBYTECODE=1 \
            /usr/bin/python3 -m patroni "$folder/patroni.yml"
        ;;
    redis) exec redis-server "$folder/redis.conf" ;;
    sentinel) exec redis-sentinel "$folder/sentinel.conf" ;;
    haproxy) exec haproxy -W -db -f "$folder/haproxy.cfg" ;;
    rabbitmq)
        bin=$(rabbitmq_bin)
        # As in rabbitmqctl.sh: a small machine with several nodes, and the start script becomes the server.
        exec env -i PATH="$PATH" LANG=C.UTF-8 HOME="$folder/data/rabbitmq" XDG_CONFIG_HOME="$folder/data/rabbitmq" \
            ERL_CRASH_DUMP="$folder/data/rabbitmq/erl_crash.dump" \
            RABBITMQ_CONF_ENV_FILE="$folder/rabbitmq-env.conf" \
            RABBITMQ_CONFIG_FILE="$folder/rabbitmq.conf" \
            RABBITMQ_ADVANCED_CONFIG_FILE="$folder/advanced.config" \
            RABBITMQ_GENERATED_CONFIG_DIR="$folder/data/rabbitmq" \
            RABBITMQ_ENABLED_PLUGINS_FILE="$folder/enabled_plugins" \
            RABBITMQ_MNESIA_BASE="$folder/data/rabbitmq" RABBITMQ_LOG_BASE="$folder/data/rabbitmq" RABBITMQ_LOGS=- \
            RABBITMQ_SCHEDULER_BIND_TYPE=u RABBITMQ_ALLOW_INPUT=1 RABBITMQ_SERVER_START_ARGS='-noinput +S 2:2' \
            "$bin/rabbitmq-server"
        ;;
    rabbitmq-watch)
        # shellcheck disable=SC2016  # The inner shell reads the file.
        exec "$folder/rabbitmq-watch.sh" sh -c 'kill -KILL "$(cat "$0"/rabbitmq/*.pid)"' "$folder/data"
        ;;
    *) fail "no part '$part'" ;;
esac
