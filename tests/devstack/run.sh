#!/usr/bin/env bash
# Runs the tests of the DevStack plugin: run.sh [argument of bats ...]
#
# bats is the one on the PATH, or else the release that package-lock.json pins,
# installed with npm into ~/.cache/gnocchi-influxdb, once. The functional tests
# need an InfluxDB 2.x that nobody has set up: tools/lib/servers finds one (influxd
# on the PATH, Docker, a build). PYTHON names the interpreter it runs with.
# DEVSTACK_DIR may name a checkout of DevStack, whose functions are then taken.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# The first with bats_require_minimum_version.
oldest=1.7

install_bats() {
    local cache=${XDG_CACHE_HOME:-$HOME/.cache}/gnocchi-influxdb
    local pin
    pin=$(cksum <"$here/package-lock.json")
    local home=$cache/bats-${pin%% *}
    bats=$home/node_modules/bats/bin/bats
    if [[ -x $bats ]]; then
        return
    fi
    if ! type -P npm >/dev/null; then
        echo "run.sh: the tests of the DevStack plugin need bats $oldest or" \
            "later (Debian's bats), or npm (Debian's npm) to install it" >&2
        exit 1
    fi
    mkdir -p "$home"
    cp "$here/package.json" "$here/package-lock.json" "$home"
    # NODE_ENV=production in the environment would leave bats out.
    npm --prefix "$home" ci --include=dev --no-audit --no-fund >&2
}

bats=$(type -P bats || true)
if [[ -n $bats ]]; then
    version=$("$bats" --version)
    if [[ $(printf '%s\n' "$oldest" "${version##* }" | sort -V | head -n 1) \
        != "$oldest" ]]; then
        bats=""
    fi
fi
if [[ -z $bats ]]; then
    install_bats
fi

# Those of the tests' own InfluxDB are not for the plugin.
for name in ${!GNOCCHI_INFLUXDB_*}; do
    case $name in
        GNOCCHI_INFLUXDB_VENV | GNOCCHI_INFLUXDB_PYTHON) ;;
        *) unset "$name" ;;
    esac
done

if (($# == 0)); then
    set -- "$here"
fi
exec "$bats" "$@"
