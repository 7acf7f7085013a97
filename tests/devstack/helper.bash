#!/usr/bin/env bash
# Loaded by the tests: a sandbox, and commands that record how they are called.

bats_require_minimum_version 1.7.0

# Every command that the plugin, or the fake DevStack, runs from the PATH. It
# is all that there is on the PATH: one that is not listed can't be run, so no
# command line escapes the record.
COMMANDS=(awk cat curl dirname grep hexdump install mkdir mktemp mv python3
    rm rmdir sleep tee timeout)
# What DevStack's own functions run besides.
if [[ -n ${DEVSTACK_DIR:-} ]]; then
    COMMANDS+=(sed which)
fi

sandbox_setup() {
    SANDBOX=$BATS_TEST_TMPDIR/sandbox
    # What DevStack's functions and docker were called with.
    CALLS=$BATS_TEST_TMPDIR/calls
    # Command lines, as ps would show them.
    LINES=$BATS_TEST_TMPDIR/lines
    TRACE=$BATS_TEST_TMPDIR/trace
    BIN=$BATS_TEST_TMPDIR/bin
    STACK_USER=$(id -un)
    ENABLED_SERVICES=key,ceilometer-acentral,gnocchi-api,gnocchi-metricd
    GNOCCHI_CONF_DIR=$SANDBOX/etc/gnocchi
    SYSTEMD_DIR=$SANDBOX/etc/systemd/system
    DATA_DIR=$SANDBOX/data
    export SANDBOX CALLS LINES TRACE STACK_USER ENABLED_SERVICES \
        GNOCCHI_CONF_DIR SYSTEMD_DIR DATA_DIR
    mkdir -p "$GNOCCHI_CONF_DIR" "$DATA_DIR" "$BIN"
    touch "$CALLS" "$LINES" "$TRACE"
    local name
    for name in "${COMMANDS[@]}"; do
        # What looks like one command may be a script that needs others.
        command_runs "$name" \
            "PATH=$BIN:$PATH exec $(type -P "$name") \"\$@\""
    done
    # shellcheck disable=SC2016
    command_runs dpkg '[[ " ${INSTALLED:-} " == *" ${!#} "* ]]'
    command_runs gnocchi-upgrade "echo gnocchi-upgrade \"\$@\" >>\"\$CALLS\""
}

# command_runs name script: put a command on the PATH of the plugin
command_runs() {
    {
        cat <<'END'
#!/bin/bash
printf '%s\n' "${0##*/} $*" >>"$LINES"
END
        printf '%s\n' "$2"
    } >"$BIN/$1"
    chmod +x "$BIN/$1"
}

# What ceilometer's plugin leaves behind in its post-config phase.
gnocchi_is_configured() {
    cat >"$GNOCCHI_CONF_DIR/gnocchi.conf" <<END
[DEFAULT]
debug = True

[indexer]
url = mysql+pymysql://root:secret@127.0.0.1/gnocchi

[storage]
driver = redis
redis_url = redis://localhost:6379

[coordination_url]
redis://localhost:6379 =
END
}

# Run phases of the plugin; with run, which keeps the output.
stack() {
    PATH=$BIN /bin/bash "$BATS_TEST_DIRNAME/stack.sh" "$@"
}

calls() {
    cat "$CALLS"
}

called() {
    grep --fixed-strings --quiet --regexp "$1" "$CALLS" || {
        echo "not called: $1; these were:"
        calls
        return 1
    }
}

not_called() {
    if grep --fixed-strings --regexp "$1" "$CALLS"; then
        echo "called, but should not have been: $1"
        return 1
    fi
}

# called_before one other: the first call of each
called_before() {
    local first second
    called "$1" && called "$2" || return 1
    first=$(grep -nFm1 -e "$1" "$CALLS")
    second=$(grep -nFm1 -e "$2" "$CALLS")
    if ((${first%%:*} >= ${second%%:*})); then
        echo "not in this order: $1, $2"
        calls
        return 1
    fi
}

succeeds() {
    # shellcheck disable=SC2154
    [[ $status == 0 ]] || {
        echo "status $status: $output"
        return 1
    }
}

dies_with() {
    [[ $status != 0 && $output == *"[ERROR] "*"$1"* ]] || {
        echo "status $status, no error with \"$1\": $output"
        return 1
    }
}

# conf section option
conf() {
    awk -v section="[$1]" -v option="$2" '
        /^\[/ { inside = ($0 == section) }
        inside && $1 == option { sub(/^[^=]*= */, ""); print }
    ' "$GNOCCHI_CONF_DIR/gnocchi.conf"
}

# gnocchi_reads section option: the value, as oslo.config gives it to Gnocchi
gnocchi_reads() {
    "${PYTHON:-python3}" -c '
import sys
from oslo_config import cfg
path, section, option = sys.argv[1:]
conf = cfg.ConfigOpts()
conf.register_opts([cfg.StrOpt(option)], group=section)
conf([], default_config_files=[path])
print(conf[section][option])' "$GNOCCHI_CONF_DIR/gnocchi.conf" "$1" "$2"
}

mode() {
    stat --format %a "$1"
}

# is_secret value: neither the trace, nor a command line, nor the output has it
is_secret() {
    local file
    [[ -n $1 ]] || return 1
    for file in "$TRACE" "$LINES" "$CALLS"; do
        # So that a record that was not written is no proof.
        [[ -s $file ]] || {
            echo "$file is empty"
            return 1
        }
        if grep --fixed-strings --regexp "$1" "$file"; then
            echo "a secret is in $file"
            return 1
        fi
    done
    [[ $output != *"$1"* ]] || {
        echo "a secret is in the output: $output"
        return 1
    }
}

# Start an InfluxDB that nobody has set up, the test's own; sets URL and PORT.
# shellcheck disable=SC2034
influxdb_starts() {
    local ready=$BATS_TEST_TMPDIR/url log=$BATS_TEST_TMPDIR/influxd.log
    # bats waits for all that hold its descriptor 3.
    "${PYTHON:-python3}" "$BATS_TEST_DIRNAME/influxd.py" "$ready" \
        >"$log" 2>&1 3>&- &
    INFLUXD=$!
    until [[ -f $ready ]]; do
        if ! kill -0 "$INFLUXD" 2>/dev/null; then
            cat "$log"
            return 1
        fi
        sleep 0.1
    done
    URL=$(<"$ready")
    PORT=${URL##*:}
}

influxdb_stops() {
    if [[ -n ${INFLUXD-} ]]; then
        kill "$INFLUXD"
        wait "$INFLUXD" || true
        unset INFLUXD
    fi
}

# api path [curl's arguments ...]: with the token of the set-up
api() {
    api_with operator-token "$@"
}

# api_with file path [curl's arguments ...]: with a token of the credentials
api_with() {
    local file=$1 path=$2
    shift 2
    curl --silent --noproxy '*' "$@" "$URL$path" --header \
        "Authorization: Token $(<"$GNOCCHI_CONF_DIR/influxdb/$file")"
}

# A docker that keeps its containers, volumes and images as files.
docker_is_there() {
    export DOCKER=$BATS_TEST_TMPDIR/docker
    mkdir -p "$DOCKER/container" "$DOCKER/volume" "$DOCKER/image"
    command_runs docker "$(
        cat <<'END'
case "$1 $2" in
    info*) [[ ! -f $DOCKER/is-down ]] ;;
    "image inspect") [[ -f $DOCKER/image/$3 ]] ;;
    "pull "*) [[ ! -f $DOCKER/is-offline ]] && : >"$DOCKER/image/$2" ;;
    "container inspect") cat "$DOCKER/container/${!#}" ;;
    "volume inspect") [[ -f $DOCKER/volume/$3 ]] ;;
    "volume rm") rm "$DOCKER/volume/$3" ;;
    "run "*)
        while [[ $1 != --name ]]; do shift; done
        [[ ! -f $DOCKER/container/$2 && ! -f $DOCKER/port-is-taken ]] \
            || exit 125
        echo "true ${!#}" >"$DOCKER/container/$2"
        : >"$DOCKER/volume/$2"
        ;;
    "stop "*)
        read -r _ image <"$DOCKER/container/${!#}"
        echo "false $image" >"$DOCKER/container/${!#}"
        ;;
    "rm "*)
        read -r running _ <"$DOCKER/container/${!#}"
        [[ $running == false ]] && rm "$DOCKER/container/${!#}"
        ;;
    *) exit 2 ;;
esac
END
    )"
}
