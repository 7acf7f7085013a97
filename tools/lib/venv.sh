# shellcheck shell=bash
# Makes the checkout's virtual environment and runs a Python package in
# it; sourced by tools/test, tools/demo, tools/soak and tools/bench.
#
# It has the urllib3 that whoever installs the project gets. gabbi, which
# Gnocchi's own suite needs at a version before 4, asks for an older one, but
# works with that. The older one, which OpenStack's constraints may bring, is
# in $VENV/urllib3-1, for whoever puts that on PYTHONPATH.
#
# GNOCCHI_INFLUXDB_VENV puts the environment elsewhere, GNOCCHI_INFLUXDB_PYTHON
# names the interpreter to make it with.

venv_say() {
    printf '%s\n' "$*" >&2
}

# Runs a command, its output in a log, saying now and then that it goes on.
venv_run() {
    local message=$1 log=$2 started=$SECONDS told=$SECONDS pid
    shift 2
    "$@" >"$log" 2>&1 &
    pid=$!
    # No signal reaches it by itself: what bash runs in the background ignores
    # the terminal's Ctrl-C.
    trap 'kill "$pid" 2>/dev/null; wait "$pid"; exit 130' INT
    trap 'kill "$pid" 2>/dev/null' TERM HUP
    while kill -0 "$pid" 2>/dev/null; do
        sleep 0.5
        if ((SECONDS - told >= 15)); then
            told=$SECONDS
            venv_say "$message ($((SECONDS - started)) s)"
        fi
    done
    trap - INT TERM HUP
    if ! wait "$pid"; then
        venv_say "failed: $*"
        tail -n 25 "$log" >&2
        return 1
    fi
}

# What the installed packages follow from.
venv_wanted() {
    local root=$1
    cksum "$root/setup.cfg" "$root/setup.py" "$root/pyproject.toml" \
        "$root/tools/lib/venv.sh" |
        awk '{ print $1, $2 }'
    "$VENV/bin/python" --version
}

venv_ready() {
    local root=$1
    local base=${GNOCCHI_INFLUXDB_PYTHON:-python3}
    VENV=${GNOCCHI_INFLUXDB_VENV:-$root/.venv}
    # Made absolute: tools/test changes directory.
    [[ $VENV == /* ]] || VENV=$PWD/$VENV
    PYTHON=$VENV/bin/python

    if ! "$PYTHON" -c '' 2>/dev/null; then
        if ! "$base" -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
            2>/dev/null; then
            venv_say "Python 3.10 or later is needed; $base is" \
                "$("$base" --version 2>&1 || true)." \
                "GNOCCHI_INFLUXDB_PYTHON can name another."
            return 1
        fi
        venv_say "making the virtual environment $VENV ..."
        if ! "$base" -m venv --clear "$VENV"; then
            rm -rf "$VENV"
            venv_say "$base can't make one; Debian has it in python3-venv."
            return 1
        fi
    fi

    # Two runs at a time must not install at a time.
    exec {venv_lock}>"$VENV/.lock"
    if ! flock --nonblock "$venv_lock"; then
        venv_say "another run is installing packages, waiting for it ..."
        flock "$venv_lock"
    fi
    local stamp=$VENV/.installed wanted
    wanted=$(venv_wanted "$root")
    if [[ $(cat "$stamp" 2>/dev/null) != "$wanted" ]]; then
        venv_say "installing the packages for the tests and the demo," \
            "one to three minutes ..."
        rm -f "$stamp"
        venv_run "still installing" "$VENV/install.log" \
            "$PYTHON" -m pip install --disable-pip-version-check \
            --editable "${root}[test]" || return 1
        venv_run "still installing" "$VENV/install-urllib3.log" \
            "$PYTHON" -m pip install --disable-pip-version-check \
            --upgrade --no-deps "urllib3>=2" || return 1
        venv_run "still installing" "$VENV/install-urllib3-1.log" \
            "$PYTHON" -m pip install --disable-pip-version-check \
            --upgrade --no-deps --target "$VENV/urllib3-1" "urllib3<2" ||
            return 1
        printf '%s\n' "$wanted" >"$stamp"
        venv_say "packages installed."
    fi
    exec {venv_lock}>&-
}

# Runs a package in the virtual environment. It gets the signals itself, and
# cleans up.
venv_exec() {
    local root=$1 package=$2
    shift 2
    venv_ready "$root"
    export PATH=$VENV/bin:$PATH
    exec "$PYTHON" -m "$package" "$@"
}

# Lets the package's module `arguments` look at the command line first: help,
# and what is wrong, need no virtual environment.
venv_exec_checked() {
    local root=$1 package=$2
    local python=${GNOCCHI_INFLUXDB_PYTHON:-python3} argument
    shift 2
    for argument in "$@"; do
        if [[ $argument == -h || $argument == --help ]]; then
            exec "$python" -m "$package.arguments" --help
        fi
    done
    "$python" -m "$package.arguments" "$@" || exit
    venv_exec "$root" "$package" "$@"
}
