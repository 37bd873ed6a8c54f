#!/usr/bin/env bash
# Writes the configuration of one of the three machines: puts its number and the values of cluster.env into the files beside
# this script.
# Usage: configure.sh {1|2|3} FOLDER [CLUSTER_ENV]
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
if [[ $# -lt 2 || $# -gt 3 || ! $1 =~ ^[123]$ ]]; then
    echo "usage: configure.sh {1|2|3} FOLDER [CLUSTER_ENV]" >&2
    exit 1
fi
NUMBER=$1
mkdir -p "$2"
FOLDER=$(cd -- "$2" && pwd -P)
cluster=${3-$here/cluster.env}

names=(NUMBER FOLDER SELF SELF_COMMAS)
while IFS='=' read -r name value; do
    [[ $name =~ ^[A-Z][A-Z0-9_]*$ ]] || continue
    names+=("$name")
    declare "$name=$value"
done <"$cluster"
SELF=HOST$NUMBER
SELF=${!SELF}
# The same address as Erlang writes it. Used by its name, below.
# shellcheck disable=SC2034
SELF_COMMAS=${SELF//./,}

for file in etcd.yml patroni.yml post_bootstrap.sh redis.conf sentinel.conf rabbitmq.conf rabbitmq-env.conf rabbitmq-watch.sh haproxy.cfg \
    flashsale.env; do
    text=$(<"$here/$file")
    for name in "${names[@]}"; do text=${text//"\${$name}"/"${!name}"}; done
    if [[ $text =~ \$\{[A-Za-z0-9_]+\} ]]; then
        echo "error: $file needs ${BASH_REMATCH[0]}, which $cluster does not have" >&2
        exit 1
    fi
    # Most of them have passwords.
    (umask 077 && printf '%s\n' "$text" >"$FOLDER/$file")
done
chmod +x "$FOLDER/post_bootstrap.sh" "$FOLDER/rabbitmq-watch.sh"
# The second Redis starts as a replica of the first. From then on the sentinels decide.
if ((NUMBER == 2)); then
    # shellcheck disable=SC2153  # HOST1 is from cluster.env.
    echo "replicaof $HOST1 6379" >>"$FOLDER/redis.conf"
fi
