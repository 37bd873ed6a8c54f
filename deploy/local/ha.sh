#!/usr/bin/env bash
# 'make ha': the configuration of deploy/ha on three machines, which are network namespaces of this one, under load and
# faults. MINUTES and SEED as in 'make chaos'. ONLY="partition switchover" selects kinds of faults. SLOWNESS=3 makes the time
# limits of Patroni, etcd and the run three times as long, for a machine that is busy with something else. Everything runs in namespaces that end with this script: no process, address
# or mount is left. Does not touch .local/ or the processes of 'make up'.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "$0")/lib.sh"
cd "$root"

patroni='patroni[etcd3,psycopg3]==4.1.5'
tools=$root/target/tools/patroni
machines=(1 2 3)

main() {
    # Reports invalid settings before anything is built or started.
    check_settings
    deploy/local/install.sh "${services[@]}" etcd sentinel haproxy psql ip pip
    install_patroni
    # Settings for 'make up' must not reach the programs under test.
    for name in $(setting_names) LISTEN_ADDR; do unset "$name"; done
    cargo build "${debug_build[@]}" --bins --examples

    # Not in /tmp, which may be in memory: acknowledged work must reach a disk.
    work=$(mktemp -d "${TMPDIR:-/var/tmp}/flashsale-ha.XXXXXX")
    chmod 711 "$work"
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    # In the background: bash handles a signal only after a foreground command ends. --kill-child: when this process ends,
    # the first process inside is killed, and with it the kernel kills everything in its process namespace.
    unshare --mount --net --pid --fork --kill-child --mount-proc -- "$0" --inside "$work" &
    inside=$!
    wait "$inside"
}

check_settings() {
    [[ ${MINUTES-3} =~ ^[0-9]{1,4}([.][0-9]{1,3})?$ && ${MINUTES-3} =~ [1-9] ]] ||
        fail "MINUTES must be a number above 0 and below 10000, such as 3 or 0.5, not '$MINUTES'."
    [[ ${SEED-0} =~ ^[0-9]{1,18}$ ]] || fail "SEED must be a whole number of at most 18 digits, not '$SEED'."
    [[ ${SLOWNESS-1} =~ ^([1-9]|1[0-9]|20)$ ]] || fail "SLOWNESS must be a whole number from 1 to 20, not '$SLOWNESS'."
    local kind kinds=(switchover kill-machine kill-part hang-part restart-haproxy partition rolling-restart)
    [[ ${ONLY-all} =~ ^[a-z-]+(\ [a-z-]+)*$ ]] || fail "ONLY must be some of: ${kinds[*]}, not '$ONLY'."
    for kind in ${ONLY-}; do
        [[ " ${kinds[*]} " == *" $kind "* ]] || fail "ONLY must be some of: ${kinds[*]}, not '$kind'."
    done
    unshare --mount --net --pid --fork --mount-proc true 2>/dev/null ||
        fail "'make ha' needs network namespaces, which this user cannot make on this machine." \
            "Run it as root. In a container: with --privileged, or with the capability SYS_ADMIN and NET_ADMIN."
}

# Debian's Patroni loses sales, see deploy/ha/patroni.yml. For Debian's Python, because PostgreSQL's user runs it.
install_patroni() {
    if [[ -e $tools/.complete ]]; then return; fi
    say "installing $patroni into target/tools"
    rm -rf "$tools"
    /usr/bin/python3 -m pip install -q --disable-pip-version-check --root-user-action ignore --target "$tools" "$patroni" ||
        fail "could not install $patroni from PyPI."
    touch "$tools/.complete"
}

clean_up() {
    trap '' INT TERM
    if [[ -n ${inside-} ]]; then
        kill -KILL "$inside" 2>/dev/null || true
        wait "$inside" 2>/dev/null || true
    fi
    rm -rf "$work"
}

# The first process of the namespaces: makes the machines' network and folders, and starts the run.
inside() {
    local number
    work=$1
    find_postgres_owner
    mkdir "$work/patroni"
    mount --bind "$tools" "$work/patroni"
    # The namespaces' names are in files. These disappear with this mount.
    mkdir -p /run/netns
    mount -t tmpfs none /run/netns
    ip link set lo up
    ip link add ha0 type bridge
    ip addr add 10.77.0.254/24 dev ha0
    ip link set ha0 up
    for number in "${machines[@]}"; do
        ip netns add "ha$number"
        ip link add "ha$number" type veth peer name eth0 netns "ha$number"
        ip link set "ha$number" master ha0 up
        ip -n "ha$number" addr add "10.77.0.$number/24" dev eth0
        ip -n "ha$number" link set eth0 up
        ip -n "ha$number" link set lo up
        make_folder "$number"
    done
    MINUTES=${MINUTES-3} "${CARGO_TARGET_DIR:-target}/debug/flashsale-chaos" --ha "$work" --logs target/ha &
    wait "$!"
}

make_folder() {
    local folder=$work/$1 own name value
    mkdir -p "$folder"/data/{etcd,postgresql,rabbitmq,redis,sentinel}
    chmod 711 "$folder" "$folder/data"
    own=$(postgres_bin)
    sed -e "s|^DATA=.*|DATA=$folder/data|" -e "s|^POSTGRES_BIN=.*|POSTGRES_BIN=$own|" deploy/ha/cluster.env >"$folder/cluster.env"
    while IFS='=' read -r name value; do
        echo "$name=$((value * ${SLOWNESS-1}))"
    done < <(grep -E '^(PATRONI_(TTL|LOOP_WAIT|RETRY_TIMEOUT)|ETCD_(HEARTBEAT|ELECTION)|RABBITMQ_START_SECONDS)=' deploy/ha/cluster.env) >>"$folder/cluster.env"
    deploy/ha/configure.sh "$1" "$folder" "$folder/cluster.env"
    echo '[].' >"$folder/enabled_plugins"
    echo only-inside-make-ha >"$folder/data/rabbitmq/.erlang.cookie"
    chmod 400 "$folder/data/rabbitmq/.erlang.cookie"
    # etcd refuses a folder that others can read.
    chmod 700 "$folder/data/etcd" "$folder/data/postgresql"
    if ((EUID == 0)); then
        chown -R "$owner:" "$folder/data/postgresql" "$folder/patroni.yml" "$folder/post_bootstrap.sh"
    fi
}

if [[ ${1-} == --inside ]]; then inside "$2"; else main; fi
