#!/bin/bash
#
# devstack/plugin.sh
# Makes the Gnocchi of ceilometer's DevStack plugin store in InfluxDB.
#
# DevStack sources it as ``plugin.sh <mode> [phase]``; ceilometer's plugin has
# had its turn in the same phase before:
#
#   install       it has installed Gnocchi, this adds the driver and a server
#                 and takes out of gnocchi.conf what it has set before
#   post-config   it has written gnocchi.conf for Redis and run
#                 gnocchi-upgrade, this rewrites the storage and runs it again
#   extra         it has started Gnocchi, with what post-config has left
#
# See settings for the variables and README.rst for the rest.

_XTRACE_GNOCCHI_INFLUXDB=$(set +o | grep xtrace)
set -o xtrace

# shellcheck source=devstack/lib/influxdb
source "$(dirname "${BASH_SOURCE[0]}")/lib/influxdb"

if is_service_enabled gnocchi-api gnocchi-metricd; then
    case "$1${2:+ $2}" in
        "stack pre-install")
            check_gnocchi_influxdb_settings
            ;;
        "stack install")
            echo_summary "Installing InfluxDB and its driver for Gnocchi"
            # If unstack.sh did not: ceilometer's plugin runs Gnocchi first.
            forget_gnocchi_influxdb
            install_gnocchi_influxdb
            ;;
        "stack post-config")
            echo_summary "Configuring Gnocchi to store in InfluxDB"
            # A wrong order of plugins is told before anything is changed.
            check_gnocchi_is_configured
            start_gnocchi_influxdb
            init_gnocchi_influxdb
            configure_gnocchi_influxdb
            upgrade_gnocchi_storage
            restart_running_gnocchi
            ;;
        "stack extra")
            check_gnocchi_stores_in_influxdb
            echo_summary "Gnocchi stores in InfluxDB, $GNOCCHI_INFLUXDB_URL"
            ;;
        "stack test-config")
            # Tempest sees Gnocchi's API only, which is as before.
            :
            ;;
        "unstack")
            stop_gnocchi_influxdb
            forget_gnocchi_influxdb
            ;;
        "clean")
            cleanup_gnocchi_influxdb
            ;;
    esac
fi

$_XTRACE_GNOCCHI_INFLUXDB
