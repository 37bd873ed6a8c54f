#!/usr/bin/env bash
# 'make mutants': takes one guard after the other out of the SQL functions, and runs the tests that must notice. Fails
# if they pass. Arguments select guards: parts of their names. Server: TEST_DATABASE_URL if set, else a private
# PostgreSQL that is removed afterwards.
#
# The guards are in crates/inventory/tests/mutants.txt. They are taken out of a copy of the source, in target/mutants:
# the source itself is never changed, also if this script is killed. The copy has a build directory of its own, because
# cargo takes two copies of a workspace that share one for the same.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname -- "$0")/lib.sh"
cd "$root"

list=crates/inventory/tests/mutants.txt
seconds_per_guard=180
copy=$root/target/mutants/source

if [[ -z ${TEST_DATABASE_URL-} ]]; then deploy/local/install.sh postgres; fi
mkdir -p "$copy"
exec {lock}>"$root/target/mutants/lock"
flock --nonblock "$lock" || fail "'make mutants' runs already."

work=$(mktemp -d "${TMPDIR:-/tmp}/flashsale-mutants.XXXXXX")
# As root, PostgreSQL runs as another user, who must be able to enter the folder.
chmod 711 "$work"
clean_up() {
    trap '' INT TERM
    if [[ -n ${tests-} ]]; then kill -- "-$tests" 2>/dev/null || true; fi
    deploy/local/server.sh postgres erase "$work/postgres" || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [[ -z ${TEST_DATABASE_URL-} ]]; then
    TEST_DATABASE_URL=$(FLASHSALE_LOCAL_POSTGRES_OPTIONS='-c fsync=off' \
        deploy/local/server.sh postgres start "$work/postgres")
fi
export DATABASE_URL=$TEST_DATABASE_URL
export CARGO_TARGET_DIR=$root/target/mutants/build CARGO_PROFILE_DEV_DEBUG=0

# Every file gets the time of now: cargo must not take a guard that an earlier run left out for the source.
rm -rf "$copy"
mkdir "$copy"
git ls-files -z --cached --others --exclude-standard | while IFS= read -rd '' file; do
    if [[ -f $file ]]; then printf '%s\0' "$file"; fi
done | tar --null --files-from=- --create | tar --extract --touch --directory="$copy"

# run FILTER...: the tests of the rules in the copy. Their output is in $work/log.
run() {
    local status=0
    # In a process group of their own, so that clean_up ends cargo and the tests. In the background: bash handles a
    # signal only after a foreground command ends.
    setsid timeout --foreground "$seconds_per_guard" \
        cargo test --quiet --locked --workspace --manifest-path "$copy/Cargo.toml" --test rules -- "$@" \
        </dev/null >"$work/log" 2>&1 {lock}>&- &
    tests=$!
    wait "$tests" || status=$?
    kill -- "-$tests" 2>/dev/null || true
    tests=
    return "$status"
}

survivors=0 mistakes=0 caught=0
mistake() {
    mistakes=$((mistakes + 1))
    say "$1: ERROR: $2"
    if (($# > 2)); then show_log "$3"; fi
}

# judge NAME FUNCTION TEXT REPLACEMENT FILTER...: takes a guard out, and says whether the tests notice.
judge() {
    local name=$1 function=$2 text=$3 replacement=$4 source file rest failed
    shift 4
    file=$copy/crates/inventory/sql/$function.sql
    if [[ ! -f $file ]]; then
        mistake "$name" "no longer applies: there is no function $function"
        return
    fi
    source=$(<"$file")
    rest=${source#*"$text"}
    if [[ $rest == "$source" || -z $text ]]; then
        mistake "$name" "no longer applies: $function.sql does not contain this text: $text"
        return
    elif [[ ${rest#*"$text"} != "$rest" ]]; then
        mistake "$name" "does not apply: $function.sql contains this text more than once: $text"
        return
    fi
    printf '%s\n' "${source/"$text"/"$replacement"}" >"$file"
    if run "$@"; then
        if grep -q '^running 0 tests' "$work/log"; then
            mistake "$name" "no test has one of these names: $*"
        else
            survivors=$((survivors + 1))
            say "$name: NOT CAUGHT by $*"
        fi
    elif grep -qE 'code: "(42|0A)...", message' "$work/log"; then
        mistake "$name" "the function without the guard is not valid SQL" "$work/log"
    elif failed=$(sed -nE 's/^---- ([a-z_:]+) stdout ----$/\1/p' "$work/log" | head -n 1) && [[ -n $failed ]]; then
        caught=$((caught + 1))
        say "$name: caught by $failed"
    else
        mistake "$name" "the tests did not end within $seconds_per_guard s, or were not built" "$work/log"
    fi
    printf '%s\n' "$source" >"$file"
}

is_selected() {
    local part
    for part in "${selection[@]}"; do
        if [[ $1 == *"$part"* ]]; then return 0; fi
    done
    ((${#selection[@]} == 0))
}

# The guards that are selected: one entry of each array for one guard.
selection=("$@")
names=() texts=() replacements=() filters=()
mapfile -t lines <"$copy/$list"
last=-1
for line in "${lines[@]}"; do
    case $line in
        '== '*)
            is_skipped=
            if is_selected "${line#== }"; then
                last=$((last + 1))
                names[last]=${line#== } texts[last]='' replacements[last]='' filters[last]=''
            else
                is_skipped=yes
            fi
            ;;
        '' | '#'*) ;;
        [-+\>]' '*)
            case $is_skipped$line in
                '- '*) texts[last]+=${texts[last]:+$'\n'}${line#- } ;;
                '+ '*) replacements[last]+=${replacements[last]:+$'\n'}${line#+ } ;;
                '> '*) filters[last]=${line#> } ;;
            esac
            ;;
        *) fail "$list: not understood: $line" ;;
    esac
done
((last >= 0)) || fail "no guard in $list has such a name."

say "the tests, with all guards"
mapfile -t all < <(tr ' ' '\n' <<<"${filters[*]}" | sort -u)
seconds_per_guard=1800 run "${all[@]}" || {
    show_log "$work/log"
    fail "the tests fail although no guard was taken out."
}
for i in "${!names[@]}"; do
    read -ra those <<<"${filters[i]}"
    judge "${names[i]}" "${names[i]%%:*}" "${texts[i]}" "${replacements[i]}" "${those[@]}"
done

say "$caught caught, $survivors not caught, $mistakes errors"
((survivors == 0 && mistakes == 0))
