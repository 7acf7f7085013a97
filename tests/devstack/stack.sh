#!/usr/bin/env bash
# As much of DevStack as the plugin sees: stack.sh phase ...
#
# A phase is "stack install", "unstack" and so on. Like stack.sh it sources
# settings first, then plugin.sh for each phase, in one shell with tracing on
# and errexit; nounset, which DevStack has on request, is on too.
#
# DevStack's functions record their calls in $CALLS. sudo works for files
# below $SANDBOX only.
set -o errexit -o nounset

exec 9>>"$TRACE"
BASH_XTRACEFD=9
PS4='+ ${BASH_SOURCE[0]}:${LINENO} '

record() {
    printf '%s\n' "$*" >>"$CALLS"
}

# What records itself, and does nothing else.
for name in echo_summary start_service stop_service restart_service \
    setup_develop install_package uninstall_package; do
    eval "$name() { record $name \"\$@\"; }"
done

define_plugin() { record define_plugin "$@"; }
plugin_requires() { record plugin_requires "$@"; }

is_service_enabled() {
    local service
    for service in "$@"; do
        [[ ",$ENABLED_SERVICES," == *",$service,"* ]] && return 0
    done
    return 1
}

is_ubuntu() { [[ ${DISTRIBUTION:-ubuntu} == ubuntu ]]; }

is_package_installed() { [[ " ${INSTALLED:-} " == *" $1 "* ]]; }

die() {
    { set +x; } 2>/dev/null
    shift
    echo "[ERROR] $*" >&2
    exit 1
}

generate_hex_string() {
    head -c "$1" /dev/urandom | od -An -v -tx1 | tr -d ' \n'
}

# DevStack's keep their variables out of the trace like this, too.
iniset() {
    local xtrace
    xtrace=$(set +o | grep xtrace)
    set +o xtrace
    printf '%s\n' "iniset ${1#"$SANDBOX"} $2 $3 $4" >>"$CALLS"
    local new
    new=$(mktemp)
    awk -v section="[$2]" -v option="$3" -v value="$4" '
        inside && $1 == option { next }
        { print }
        /^\[/ { inside = ($0 == section) }
        $0 == section { print option " = " value; found = 1 }
        END { if (!found) print section "\n" option " = " value }
    ' "$1" >"$new"
    cat "$new" >"$1"
    rm -f "$new"
    $xtrace
}

iniget() {
    awk -v section="[$2]" -v option="$3" '
        /^\[/ { inside = ($0 == section) }
        inside && $1 == option { sub(/^[^=]*= */, ""); print }
    ' "$1"
}

sudo() {
    case $1 in
        docker)
            record "$@"
            command "$@"
            ;;
        systemctl)
            record "$@"
            [[ $2 != is-active || " ${RUNNING:-} " == *" ${!#} "* ]]
            ;;
        *)
            record "$@"
            # The last word is the file, or the directory, to write.
            if [[ ${!#} == "$SANDBOX"/* ]]; then
                command "$@"
            elif [[ $1 == tee ]]; then
                # What it is given goes to the record.
                cat >>"$CALLS"
            fi
            ;;
    esac
}

plugin=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../devstack" && pwd)

set -o xtrace
# shellcheck source=devstack/settings
source "$plugin/settings"
for phase; do
    # shellcheck source=devstack/plugin.sh disable=SC2086
    source "$plugin/plugin.sh" $phase
done

# The plugin leaves the shell's options as they were.
[[ $- == *x* && $- == *e* && $- == *u* ]] || {
    echo "[ERROR] the plugin has changed the shell's options to $-" >&2
    exit 1
}
