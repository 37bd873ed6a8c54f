#!/usr/bin/env bash
# 'make backup': a private PostgreSQL with pgBackRest, as deploy/pgbackrest says. It runs the commands of that README:
# set up, back up, restore to a restore point in the middle of a sale.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "$0")/lib.sh"
cd "$root"

# In a subshell, because it ends its shell where nothing can be installed.
if ! command -v pgbackrest >/dev/null && ! (deploy/local/install.sh pgbackrest); then
    say "backup: SKIPPED, because pgbackrest is not on this machine and cannot be installed (Debian: apt-get install pgbackrest)"
    exit 0
fi
find_postgres_owner
work=$(mktemp -d /tmp/flashsale-backup.XXXXXX)
server=$work/server
clean_up() {
    deploy/local/server.sh postgres erase "$server" || true
    rm -rf "$work"
}
trap clean_up EXIT

export FLASHSALE_LOCAL_POSTGRES_OPTIONS="-c fsync=off -c archive_mode=on"
export FLASHSALE_LOCAL_POSTGRES_ROLE=superuser
chmod 711 "$work"
url=$(deploy/local/server.sh postgres start "$server")
data=$(readlink -m "$server/data")
port=$(<"$server/port")

# The documented configuration, with the paths of this server. pgBackRest's user is PostgreSQL's.
for folder in repository spool log lock; do
    mkdir "$work/$folder"
    if ((EUID == 0)); then chown "$owner:" "$work/$folder"; fi
done
sed -e "s|^repo1-path=.*|repo1-path=$work/repository|" -e "s|^spool-path=.*|spool-path=$work/spool|" \
    -e "s|^pg1-path=.*|pg1-path=$data|" -e "s|^pg1-port=.*|pg1-port=$port|" \
    -e "/^\[global\]/a log-path=$work/log\nlock-path=$work/lock" deploy/pgbackrest/pgbackrest.conf >"$work/pgbackrest.conf"
chmod 644 "$work/pgbackrest.conf"

# documented COMMAND: runs a line of the README, as PostgreSQL's user, with the configuration above.
documented() {
    local words
    grep -qxE " *${1//./\\.}" deploy/pgbackrest/README.md || fail "deploy/pgbackrest/README.md has no line: $1"
    say "  $1"
    eval "words=($1)"
    # The server has no Unix socket, and asks its role for a password.
    "${as_owner[@]}" env PGHOST=127.0.0.1 PGUSER=flashsale PGPASSWORD=flashsale PGDATABASE=flashsale \
        PGBACKREST_PG1_USER=flashsale PGBACKREST_PG1_DATABASE=flashsale \
        pgbackrest --config="$work/pgbackrest.conf" "${words[@]:1}"
}

ask() { psql "$url" -qAtXv ON_ERROR_STOP=1 -c "$1"; }

say "== set up"
# server.sh splits its options at spaces.
ask "alter system set archive_command = 'pgbackrest --config=$work/pgbackrest.conf --stanza=flashsale archive-push %p'"
ask 'select pg_reload_conf()' >/dev/null
documented 'pgbackrest --stanza=flashsale stanza-create'
documented 'pgbackrest --stanza=flashsale check'

say "== back up, in the middle of a sale"
cat migrations/*.up.sql crates/inventory/sql/advance_ids.sql | psql "$url" -qXv ON_ERROR_STOP=1
ask 'select advance_ids_v1()' >/dev/null
ask "insert into products (name, stock, total) values ('sold before the backup', 1, 1)"
documented 'pgbackrest --stanza=flashsale --type=full backup'
ask "insert into products (name, stock, total) values ('sold after the backup', 1, 1)"
documented 'pgbackrest --stanza=flashsale --type=diff backup'
ask "select pg_create_restore_point('before the import')" >/dev/null
lost=$(ask "insert into products (name, stock, total) values ('lost', 1, 1) returning id")
ask 'select pg_switch_wal()' >/dev/null
archived() { [[ $(ask "select last_archived_wal >= pg_walfile_name('$1') from pg_stat_archiver") == t ]]; }
wait_until 60 "the archive" archived "$(ask 'select pg_current_wal_lsn() - 1')" || fail "the log was not archived."
documented 'pgbackrest --stanza=flashsale info'

say "== restore"
deploy/local/server.sh postgres stop "$server"
documented "pgbackrest --stanza=flashsale --delta --type=name --target='before the import' --target-action=promote restore"
deploy/local/server.sh postgres start "$server" >/dev/null
[[ $(ask 'select count(*) from products') == 2 ]] || fail "the restored products are not those of the restore point."
[[ $(ask 'select advance_ids_v1()') == t ]] || fail "the new timeline was not noticed."
new=$(ask "insert into products (name, stock, total) values ('new', 1, 1) returning id")
((new > lost + 1000000000)) || fail "the id $new follows the lost id $lost."
say "backup: restored; the new id $new is far from the lost $lost."
