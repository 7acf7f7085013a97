#!/usr/bin/env bats
# What each phase of plugin.sh does to Gnocchi, in which order.

# shellcheck disable=SC2030,SC2031

load helper

setup() {
    sandbox_setup
    export GNOCCHI_INFLUXDB_INSTALL=existing
}

teardown() {
    influxdb_stops
}

gnocchi_and_influxdb_are_there() {
    gnocchi_is_configured
    influxdb_starts
    export GNOCCHI_INFLUXDB_URL=$URL
}

@test "settings name the plugin and the one it needs" {
    run stack
    succeeds
    called "define_plugin gnocchi-influxdb"
    called "plugin_requires gnocchi-influxdb ceilometer"
}

@test "settings keep what local.conf has set" {
    GNOCCHI_INFLUXDB_INSTALL=docker GNOCCHI_INFLUXDB_PORT=9999 \
        GNOCCHI_CONF=/elsewhere/gnocchi.conf \
        run /bin/bash -c "define_plugin() { :; }; plugin_requires() { :; }
            source '$BATS_TEST_DIRNAME/../../devstack/settings'
            echo \$GNOCCHI_INFLUXDB_URL \$GNOCCHI_CONF"
    [[ $output == "http://127.0.0.1:9999 /elsewhere/gnocchi.conf" ]]
}

@test "nothing is done on a host without Gnocchi" {
    ENABLED_SERVICES=n-cpu,ceilometer-acompute run stack "stack pre-install" \
        "stack install" "stack post-config" "stack extra" \
        "stack test-config" unstack clean
    succeeds
    [[ $(grep -cv plugin "$CALLS") == 0 ]]
}

@test "pre-install refuses an unknown way to get InfluxDB" {
    GNOCCHI_INFLUXDB_INSTALL=snap run stack "stack pre-install"
    dies_with "GNOCCHI_INFLUXDB_INSTALL must be docker, package or existing"
}

@test "pre-install asks for the URL of an existing server" {
    run stack "stack pre-install"
    dies_with "needs GNOCCHI_INFLUXDB_URL"
}

@test "pre-install refuses an unknown queue" {
    GNOCCHI_INFLUXDB_URL=http://db:8086 GNOCCHI_INFLUXDB_QUEUE_DRIVER=ceph \
        run stack "stack pre-install"
    dies_with "GNOCCHI_INFLUXDB_QUEUE_DRIVER must be file or redis, not ceph"
}

@test "pre-install refuses a plugin that comes before ceilometer's" {
    export GNOCCHI_INFLUXDB_URL=http://db:8086
    DEVSTACK_PLUGINS=,gnocchi-influxdb,ceilometer run stack "stack pre-install"
    dies_with "must come after enable_plugin ceilometer"
    DEVSTACK_PLUGINS=,ceilometer,aodh,gnocchi-influxdb \
        run stack "stack pre-install"
    succeeds
}

@test "install sets this repository up where Gnocchi is" {
    GNOCCHI_INFLUXDB_URL=http://db:8086 run stack "stack install"
    succeeds
    called "setup_develop $(cd "$BATS_TEST_DIRNAME/../.." && pwd)"
    not_called docker
    not_called install_package
}

@test "post-config tells of a Gnocchi that is not configured" {
    GNOCCHI_INFLUXDB_URL=http://db:8086 run stack "stack post-config"
    dies_with "must come after the plugin that installs Gnocchi"
    echo "[storage]" >"$GNOCCHI_CONF_DIR/gnocchi.conf"
    GNOCCHI_INFLUXDB_URL=http://db:8086 run stack "stack post-config"
    dies_with "must come after the plugin that installs Gnocchi"
    [[ $(<"$GNOCCHI_CONF_DIR/gnocchi.conf") == "[storage]" ]]
}

@test "post-config makes Gnocchi store in InfluxDB" {
    gnocchi_and_influxdb_are_there
    run stack "stack post-config"
    succeeds
    [[ $(conf storage driver) == influxdb ]]
    [[ $(conf storage influxdb_url) == "$URL" ]]
    [[ $(conf storage influxdb_org) == gnocchi ]]
    [[ $(conf storage influxdb_token) == \
        "$(<"$GNOCCHI_CONF_DIR/influxdb/token")" ]]
    [[ $(conf DEFAULT parallel_operations) == 32 ]]
    [[ $(conf incoming driver) == influxdb ]]
    # Gnocchi would log its options, the token too.
    [[ $(conf DEFAULT debug) == false ]]
    [[ $(conf DEFAULT verbose) == false ]]
    # What ceilometer's plugin has set otherwise stays.
    [[ $(conf indexer url) == mysql+pymysql://root:secret@127.0.0.1/gnocchi ]]
    # Only the stack user may read the token.
    [[ $(mode "$GNOCCHI_CONF_DIR/gnocchi.conf") == 600 ]]
}

@test "post-config runs gnocchi-upgrade when all options are set" {
    gnocchi_and_influxdb_are_there
    command_runs gnocchi-upgrade \
        "cp $GNOCCHI_CONF_DIR/gnocchi.conf $BATS_TEST_TMPDIR/seen
        echo gnocchi-upgrade \"\$@\" >>\"\$CALLS\""
    ln -s "$(type -P cp)" "$BIN/cp"
    run stack "stack post-config"
    succeeds
    called "gnocchi-upgrade --config-file $GNOCCHI_CONF_DIR/gnocchi.conf"
    diff "$BATS_TEST_TMPDIR/seen" "$GNOCCHI_CONF_DIR/gnocchi.conf"
}

@test "post-config tells of a gnocchi-upgrade that fails or never ends" {
    gnocchi_and_influxdb_are_there
    command_runs gnocchi-upgrade "exit 3"
    run stack "stack post-config"
    dies_with "gnocchi-upgrade has failed with status 3"
    command_runs gnocchi-upgrade "exec sleep 1000"
    GNOCCHI_INFLUXDB_UPGRADE_TIMEOUT=1 run stack "stack post-config"
    dies_with "gnocchi-upgrade has not ended after 1 s"
}

@test "post-config gives Gnocchi a queue of files" {
    gnocchi_and_influxdb_are_there
    run stack "stack post-config"
    succeeds
    [[ $(conf incoming influxdb_queue_driver) == file ]]
    [[ $(conf incoming file_basepath) == "$DATA_DIR/gnocchi" ]]
    [[ $(mode "$DATA_DIR/gnocchi") == 750 ]]
}

@test "post-config gives Gnocchi a queue in Redis" {
    gnocchi_and_influxdb_are_there
    GNOCCHI_INFLUXDB_QUEUE_DRIVER=redis run stack "stack post-config"
    succeeds
    [[ $(conf incoming influxdb_queue_driver) == redis ]]
    [[ $(conf incoming redis_url) == redis://localhost:6379 ]]
    [[ -z $(conf incoming file_basepath) ]]
}

@test "post-config lets Gnocchi coordinate where ceilometer's plugin meant" {
    gnocchi_and_influxdb_are_there
    GNOCCHI_COORDINATOR_URL=redis://localhost:6379 run stack "stack post-config"
    succeeds
    [[ $(conf DEFAULT coordination_url) == redis://localhost:6379 ]]
}

@test "post-config hands on the authority's certificates" {
    gnocchi_and_influxdb_are_there
    : >"$SANDBOX/ca.pem"
    # influxd speaks http here: curl ignores the file, Gnocchi is given it.
    GNOCCHI_INFLUXDB_CAFILE=$SANDBOX/ca.pem run stack "stack post-config"
    succeeds
    [[ $(conf storage influxdb_cafile) == "$SANDBOX/ca.pem" ]]
    grep -q "^curl .*--cacert $SANDBOX/ca.pem" "$LINES"
}

@test "post-config takes out what local.conf no longer has" {
    gnocchi_and_influxdb_are_there
    : >"$SANDBOX/ca.pem"
    GNOCCHI_INFLUXDB_CAFILE=$SANDBOX/ca.pem \
        GNOCCHI_INFLUXDB_QUEUE_DRIVER=redis run stack "stack post-config"
    succeeds
    run stack "stack post-config"
    succeeds
    [[ -z $(conf storage influxdb_cafile) ]]
    [[ -z $(conf incoming redis_url) ]]
}

@test "gnocchi.conf keeps what it is given, whatever characters" {
    gnocchi_and_influxdb_are_there
    export DATA_DIR="$SANDBOX/ a  *\$z \\& 'ä'"
    export GNOCCHI_INFLUXDB_ORG='"quoted"'
    run stack "stack post-config"
    succeeds
    [[ $(gnocchi_reads incoming file_basepath) == "$DATA_DIR/gnocchi" ]]
    [[ $(gnocchi_reads storage influxdb_org) == '"quoted"' ]]
    run stack unstack
    succeeds
    [[ $(gnocchi_reads incoming file_basepath) == None ]]
}

@test "post-config restarts of Gnocchi what runs, after the upgrade" {
    gnocchi_and_influxdb_are_there
    RUNNING=devstack@gnocchi-metricd.service run stack "stack post-config"
    succeeds
    called_before gnocchi-upgrade \
        "restart_service devstack@gnocchi-metricd.service"
    not_called "restart_service devstack@gnocchi-api.service"
}

@test "post-config starts nothing of Gnocchi" {
    gnocchi_and_influxdb_are_there
    run stack "stack post-config"
    succeeds
    not_called restart_service
    not_called start_service
}

@test "a second run changes nothing" {
    gnocchi_and_influxdb_are_there
    run stack "stack install" "stack post-config" "stack extra"
    succeeds
    cp -r "$GNOCCHI_CONF_DIR" "$BATS_TEST_TMPDIR/before"
    : >"$LINES"
    run stack "stack install" "stack post-config" "stack extra"
    succeeds
    diff -r "$BATS_TEST_TMPDIR/before" "$GNOCCHI_CONF_DIR"
    # It has asked whether it may set InfluxDB up, and has not tried.
    grep -q "^curl .*/api/v2/setup" "$LINES"
    run ! grep -q "^curl .*--data-binary.*/api/v2/setup" "$LINES"
}

@test "extra tells of a storage that somebody has changed" {
    gnocchi_is_configured
    run stack "stack extra"
    dies_with "has become redis"
}

@test "test-config has nothing to do" {
    run stack "stack test-config"
    succeeds
    [[ $(grep -cv plugin "$CALLS") == 0 ]]
}

@test "unstack, or the next install, takes its options out of gnocchi.conf" {
    gnocchi_and_influxdb_are_there
    for phase in unstack "stack install"; do
        run stack "stack post-config" "$phase"
        succeeds
        # With the lines of ceilometer's plugin it is ceilometer's Gnocchi.
        [[ -z $(conf storage driver) && -z $(conf incoming driver) ]]
        run grep -E "influxdb|verbose|file_basepath|parallel" \
            "$GNOCCHI_CONF_DIR/gnocchi.conf"
        [[ -z $output ]]
        [[ -n $(conf indexer url) ]]
    done
}

@test "after unstack ceilometer's plugin writes what it does without this one" {
    [[ -n ${DEVSTACK_DIR:-} ]] \
        || skip "DEVSTACK_DIR names no checkout of DevStack"
    # shellcheck source=/dev/null
    source "$DEVSTACK_DIR/inc/ini-config"
    ceilometer_configures() {
        local file=$GNOCCHI_CONF_DIR/gnocchi.conf
        iniset "$file" DEFAULT debug True
        iniset "$file" indexer url mysql+pymysql://root:secret@h/gnocchi
        iniset "$file" storage driver redis
        iniset "$file" storage redis_url redis://localhost:6379
    }
    influxdb_starts
    export GNOCCHI_INFLUXDB_URL=$URL
    ceilometer_configures
    sort "$GNOCCHI_CONF_DIR/gnocchi.conf" >"$BATS_TEST_TMPDIR/before"
    run stack "stack post-config" unstack
    succeeds
    ceilometer_configures
    diff <(grep . "$BATS_TEST_TMPDIR/before") \
        <(sort "$GNOCCHI_CONF_DIR/gnocchi.conf" | grep -vxF "[incoming]" \
            | grep .)
}

@test "clean leaves no gnocchi.conf, whichever way InfluxDB came" {
    for way in docker package existing; do
        gnocchi_is_configured
        GNOCCHI_INFLUXDB_URL=http://db:8086 GNOCCHI_INFLUXDB_INSTALL=$way \
            run stack clean
        succeeds
        [[ ! -e $GNOCCHI_CONF_DIR/gnocchi.conf ]]
        # Twice does no harm.
        GNOCCHI_INFLUXDB_URL=http://db:8086 GNOCCHI_INFLUXDB_INSTALL=$way \
            run stack unstack clean
        succeeds
    done
}

@test "unstack and clean leave an existing server and its token alone" {
    gnocchi_and_influxdb_are_there
    run stack "stack post-config" unstack clean
    succeeds
    not_called stop_service
    not_called docker
    # Nor do they tell of what they don't do.
    not_called "echo_summary Stopping"
    not_called "echo_summary Removing"
    [[ -s $GNOCCHI_CONF_DIR/influxdb/token ]]
    # The next stack.sh finds it.
    gnocchi_is_configured
    run stack "stack post-config"
    succeeds
}
