#!/usr/bin/env bash
# Runs rabbitmqctl against the private RabbitMQ in DIR: rabbitmqctl.sh DIR ARGS...
# (server.sh uses it with --server in place of DIR to start that RabbitMQ in the same environment.)
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "$0")/lib.sh"

program=rabbitmqctl
if [[ ${1-} == --server ]]; then
    program=rabbitmq-server
    shift
fi
[[ -f ${1-}/epmd-port ]] || fail "usage: rabbitmqctl.sh DIR ARGS... , with the DIR of a RabbitMQ that server.sh has started"
dir=$(cd -- "$1" && pwd -P)
shift
bin=$(rabbitmq_bin) || fail "RabbitMQ is not on this machine. Run: deploy/local/install.sh rabbitmq"

# The environment is built from scratch, because many RABBITMQ_, ERL_ and XDG_ variables would connect instances with
# each other. All nodes can have the same name: each uses its own name service. RABBITMQ_ALLOW_INPUT makes the start
# script become the server instead of waiting for it, so that its PID is the server's. -noinput disables the input
# that this variable allows.
exec env -i PATH="$PATH" LANG=C.UTF-8 HOME="$dir/home" XDG_CONFIG_HOME="$dir/home" \
    ERL_EPMD_PORT="$(<"$dir/epmd-port")" ERL_EPMD_ADDRESS=127.0.0.1 ERL_CRASH_DUMP="$dir/erl_crash.dump" \
    RABBITMQ_CONF_ENV_FILE=/dev/null \
    RABBITMQ_CONFIG_FILE="$dir/rabbitmq.conf" \
    RABBITMQ_ADVANCED_CONFIG_FILE="$dir/advanced.config" \
    RABBITMQ_GENERATED_CONFIG_DIR="$dir/home" \
    RABBITMQ_ENABLED_PLUGINS_FILE="$dir/enabled_plugins" \
    RABBITMQ_NODENAME=flashsale@localhost \
    RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$(<"$dir/port")" RABBITMQ_DIST_PORT="$(<"$dir/dist-port")" \
    RABBITMQ_MNESIA_BASE="$dir/data" RABBITMQ_LOG_BASE="$dir" RABBITMQ_LOGS=- \
    RABBITMQ_SCHEDULER_BIND_TYPE=u RABBITMQ_ALLOW_INPUT=1 \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-noinput +S 2:2 -kernel inet_dist_use_interface {127,0,0,1}' \
    "$bin/$program" "$@"
