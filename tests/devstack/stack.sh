#!/usr/bin/env bash
# As much of DevStack as the plugin sees: stack.sh phase ...
#
# A phase is "stack install", "unstack" and so on. Like stack.sh it sources
# settings first, then plugin.sh for each phase, in one shell with tracing on
# and errexit.
#
# DEVSTACK_DIR names a checkout of DevStack, whose functions are then taken;
# without it there are as few as the plugin needs. What changes the host records
# its call in $CALLS instead. sudo works for files below $SANDBOX only.
set -o errexit

exec 9>>"$TRACE"
BASH_XTRACEFD=9
PS4='+ ${BASH_SOURCE[0]}:${LINENO} '

record() {
    printf '%s\n' "$*" >>"$CALLS"
}

# os_PACKAGE, so that DevStack does not look at this host.
os_PACKAGE=deb
if [[ ${DISTRIBUTION:-ubuntu} != ubuntu ]]; then
    os_PACKAGE=rpm
fi

if [[ -n ${DEVSTACK_DIR:-} ]]; then
    # shellcheck source=/dev/null
    source "$DEVSTACK_DIR/functions"
else
    # Theirs are not made for it.
    set -o nounset

    is_service_enabled() {
        local service
        for service in "$@"; do
            [[ ",$ENABLED_SERVICES," == *",$service,"* ]] && return 0
        done
        return 1
    }

    is_ubuntu() { [[ $os_PACKAGE == deb ]]; }

    is_package_installed() { dpkg -s "$@" >/dev/null 2>&1; }

    die() {
        local status=$?
        { set +x; } 2>/dev/null
        shift
        echo "[ERROR] $*" >&2
        exit $((status ? status : 1))
    }

    generate_hex_string() {
        hexdump -n "$1" -v -e '/1 "%02x"' /dev/urandom
    }

    iniget() {
        awk -v section="[$2]" -v option="$3" '
            /^\[/ { inside = ($0 == section) }
            inside && $1 == option { sub(/^[^=]*= */, ""); print }
        ' "$1"
    }
fi

# What records itself, and does nothing else; $FAILING names some to fail.
for name in define_plugin plugin_requires echo_summary start_service stop_service \
    restart_service setup_develop install_package uninstall_package; do
    eval "$name() { record $name \"\$@\"; [[ \" \${FAILING:-} \" != *\" $name \"* ]]; }"
done

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
[[ $- == *x* && $- == *e* && ($- == *u* || -n ${DEVSTACK_DIR:-}) ]] || {
    echo "[ERROR] the plugin has changed the shell's options to $-" >&2
    exit 1
}
