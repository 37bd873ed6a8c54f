#!/usr/bin/env bash
# Checks that programs exist, and installs Debian packages for missing ones.
# Usage: install.sh PROGRAM...: postgres psql plpgsql_check redis sentinel rabbitmq etcd haproxy pgbouncer ip pip curl openssl
# pgbackrest chromium chromedriver promtool python3. It only looks for java and kubectl.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "$0")/lib.sh"

package_of() {
    case $1 in
        postgres) postgres_bin >/dev/null || echo postgresql ;;
        # Included with Debian's server package, but not with servers from other sources.
        psql) command -v psql >/dev/null || echo postgresql-client ;;
        plpgsql_check) plpgsql_check_package ;;
        redis) command -v redis-server >/dev/null || echo redis-server ;;
        sentinel) command -v redis-sentinel >/dev/null || echo redis-sentinel ;;
        etcd) command -v etcd >/dev/null || echo etcd-server ;;
        ip) command -v ip >/dev/null || echo iproute2 ;;
        pip) /usr/bin/python3 -m pip --version >/dev/null 2>&1 || echo python3-pip ;;
        rabbitmq) rabbitmq_bin >/dev/null || echo rabbitmq-server ;;
        chromedriver) command -v chromedriver >/dev/null || echo chromium-driver ;;
        promtool) command -v promtool >/dev/null || echo prometheus ;;
        pgbouncer) pgbouncer_package ;;
        # Debian has none that is new enough, or a large one for a single test.
        java | kubectl) command -v "$1" >/dev/null || fail "$1 is not on this machine." ;;
        curl | openssl | chromium | haproxy | pgbackrest | python3) command -v "$1" >/dev/null || echo "$1" ;;
        *) fail "install.sh knows no program '$1'." ;;
    esac
}

# An extension belongs to one major version: the one that server.sh uses.
plpgsql_check_package() {
    local bin version
    bin=$(postgres_bin) || fail "plpgsql_check needs PostgreSQL's server programs. Run: deploy/local/install.sh postgres"
    if [[ -e ${bin%/bin}/lib/plpgsql_check.so || -e ${bin%/bin}/lib/postgresql/plpgsql_check.so ]]; then return; fi
    version=$("$bin/postgres" --version)
    # Debian's package works only with Debian's PostgreSQL.
    [[ $bin == /usr/lib/postgresql/* && $version =~ \ ([0-9]+) ]] ||
        fail "plpgsql_check is not there for the PostgreSQL in $bin, and there is no package of it to install."
    echo "postgresql-${BASH_REMATCH[1]}-plpgsql-check"
}

# An older PgBouncer has no prepared statements in transaction mode. Debian 13 has one that does, Debian 12 has not.
pgbouncer_package() {
    local oldest=1.21 version
    is_new() { [[ $(printf '%s\n' "$oldest" "$1" | sort -V | head -n 1) == "$oldest" ]]; }
    version=$(pgbouncer --version 2>/dev/null | sed -n 's/^PgBouncer //p') || true
    if is_new "$version"; then return; fi
    version=$(apt-cache policy pgbouncer 2>/dev/null | sed -n 's/^ *Candidate: \([0-9]\)/\1/p') || true
    [[ -z $version ]] || is_new "$version" ||
        fail "PgBouncer $oldest or later is not on this machine, and Debian's package is of version $version."
    echo pgbouncer
}

missing=()
for program in "$@"; do
    package=$(package_of "$program")
    if [[ -n $package ]]; then missing+=("$package"); fi
done
if ((${#missing[@]} == 0)); then exit 0; fi

as_root=()
if ((EUID != 0)); then as_root=(sudo -n); fi
if ! command -v apt-get >/dev/null || ! "${as_root[@]}" true 2>/dev/null; then
    fail "missing on this machine: ${missing[*]} — and they can't be installed without root on Debian or Ubuntu. Ways out:" \
        "- point DATABASE_URL, REDIS_URL and AMQP_URL (for 'make test': TEST_DATABASE_URL and so on) at servers you have;" \
        "- start Docker ('make up' then uses docker-compose.yml);" \
        "- install them with your package manager, for example: sudo apt-get install --no-install-recommends ${missing[*]}"
fi

# Debian's packages start their servers, and PostgreSQL's also creates a database cluster. Both are disabled during
# the installation, because all our instances are private.
added=()
clean_up() {
    if ((${#added[@]} > 0)); then "${as_root[@]}" rm -f "${added[@]}"; fi
    # The file belongs to PostgreSQL's package, which has kept our version. Restore the package's version.
    if [[ " ${added[*]-} " == *createcluster.conf* && -f /usr/share/postgresql-common/createcluster.conf ]]; then
        "${as_root[@]}" cp /usr/share/postgresql-common/createcluster.conf /etc/postgresql-common/
    fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

add_file() {
    if [[ -e $1 ]]; then return; fi
    added+=("$1")
    "${as_root[@]}" mkdir -p "${1%/*}"
    "${as_root[@]}" tee "$1" >/dev/null
    "${as_root[@]}" chmod "$2" "$1"
}
add_file /usr/sbin/policy-rc.d 755 <<<$'#!/bin/sh\nexit 101'
add_file /etc/postgresql-common/createcluster.conf 644 <<<'create_main_cluster = false'

install_packages() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 \
        install --no-install-recommends "${missing[@]}"
}
say "installing ${missing[*]} (Debian's packages; a minute or two)"
output=$(mktemp)
# On a new machine the package lists are empty or old. They are fetched only if the installation fails.
if ! install_packages >"$output" 2>&1 && ! { "${as_root[@]}" apt-get -q update && install_packages; } >"$output" 2>&1; then
    show_log "$output"
    rm -f "$output"
    fail "could not install ${missing[*]}. Ways out: correct what the lines above say, start Docker, or set the servers' URLs."
fi
rm -f "$output"
