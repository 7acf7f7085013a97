#!/usr/bin/env bats
# verify.sh, as far as it needs no DevStack: gnocchi.conf and InfluxDB.

# shellcheck disable=SC2016,SC2030,SC2031,SC2034,SC2329

load helper

setup() {
    sandbox_setup
    gnocchi_is_configured
    influxdb_starts
    export GNOCCHI_INFLUXDB_INSTALL=existing GNOCCHI_INFLUXDB_URL=$URL
    run stack "stack post-config"
    succeeds
    # What verify.sh takes from the host and from DevStack.
    GNOCCHI_CONF=$GNOCCHI_CONF_DIR/gnocchi.conf
    GNOCCHI_INFLUXDB_CREDENTIALS_DIR=$GNOCCHI_CONF_DIR/influxdb
    ENABLED_SERVICES=gnocchi-api
    sudo() { cat "$BATS_TEST_TMPDIR/journal"; }
    is_service_enabled() { [[ ,$ENABLED_SERVICES, == *",$1,"* ]]; }
    echo "Gnocchi version 4.7.1" >"$BATS_TEST_TMPDIR/journal"
    LOGFILE=$BATS_TEST_TMPDIR/stack.sh.log
    echo "DevStack Component Timing" >"$LOGFILE"
    # shellcheck source=devstack/verify.sh
    source "$BATS_TEST_DIRNAME/../../devstack/verify.sh"
    VERIFY_PYTHON=${PYTHON:-python3}
    VERIFY_API=http://127.0.0.1:1/metric
    VERIFY_KEYSTONE_TOKEN=token
    VERIFY_TIMEOUT=0
}

teardown() {
    influxdb_stops
}

# finds function: what it says is all well
all_well() {
    run "$@"
    [[ $output == *"OK "* && $output != *FAIL* ]] || {
        echo "$output"
        return 1
    }
}

finds() {
    run "${@:2}"
    [[ $output == *"FAIL  $1"* ]] || {
        echo "$output"
        return 1
    }
}

@test "what post-config has written is well" {
    all_well verify_conf
    all_well verify_token
    # Two secrets at work, none shown.
    is_secret "$(<"$GNOCCHI_CONF_DIR/influxdb/token")"
    is_secret "$(<"$GNOCCHI_CONF_DIR/influxdb/operator-token")"
}

@test "a gnocchi.conf that others may read, or with debug on, is told" {
    chmod 644 "$GNOCCHI_CONF"
    finds "only its owner" verify_conf
    sed -i 's/^debug = false/debug = True/' "$GNOCCHI_CONF"
    finds "debug is off" verify_conf
}

@test "another storage, or another incoming, is told" {
    stack unstack
    finds "[storage] driver" verify_conf
    finds "[incoming] driver" verify_conf
}

@test "an operator's token in gnocchi.conf is told" {
    token=$(<"$GNOCCHI_CONF_DIR/influxdb/token")
    operator=$(<"$GNOCCHI_CONF_DIR/influxdb/operator-token")
    sed -i "s/$token/$operator/" "$GNOCCHI_CONF"
    finds "it is not the operator's" verify_token
    finds "it may not see tokens" verify_token
}

@test "a token that InfluxDB refuses is told" {
    sed -i "s/^influxdb_token = .*/influxdb_token = wrong/" "$GNOCCHI_CONF"
    finds "InfluxDB takes it" verify_token
}

@test "a token in a log is told" {
    cat "$GNOCCHI_CONF_DIR/influxdb/token" >>"$BATS_TEST_TMPDIR/journal"
    finds "it is not in Gnocchi's log" verify_token
    cat "$GNOCCHI_CONF_DIR/influxdb/token" >>"$LOGFILE"
    finds "it is not in $LOGFILE" verify_token
}

@test "a measure is found in InfluxDB, whichever bucket has it" {
    metric=5a301761-aaaa-46e2-8900-8b4f6fe6675a
    run ! influxdb_has "$metric"
    api "/api/v2/write?org=gnocchi&bucket=default" --data-binary \
        "measure,metric=$metric value=1"
    influxdb_has "$metric"
    # Its name alone is no measure of it.
    metric=5a301761-bbbb-46e2-8900-8b4f6fe6675a
    api "/api/v2/write?org=gnocchi&bucket=default" --data-binary \
        "metric_info,metric=$metric name=\"n\""
    run ! influxdb_has "$metric"
}

@test "an API that does not answer is told, and ends what needs it" {
    finds "it refuses without" verify_api
    finds "it makes a metric" verify_api
}

@test "one FAIL makes the status 1, and the rest is looked at" {
    verify_environment() { :; }
    verify_api() { bad "nothing works"; }
    verify_check() { ok "the end"; }
    run verify
    [[ $status == 1 && $output == *"OK    the end"* ]]
    verify_api() { ok "all works"; }
    run verify
    [[ $status == 0 ]]
}

@test "another's server is stopped only if it is said how" {
    run verify_outage
    [[ $output == *"SKIP  it is not the plugin's"* ]]
    VERIFY_STOP="echo stopped >>$BATS_TEST_TMPDIR/done"
    VERIFY_START="echo started >>$BATS_TEST_TMPDIR/done"
    run verify_outage
    [[ $(<"$BATS_TEST_TMPDIR/done") == stopped$'\n'started ]]
    # It has posted in between, to an API that is not there.
    [[ $output == *"FAIL  a measure is taken meanwhile"* ]]
}

@test "without ceilometer's agent no notification is expected" {
    run verify_ceilometer
    [[ $output == *"SKIP  a notification arrives"* ]]
}

@test "a wrong argument shows how it is called" {
    run verify --help
    [[ $status == 2 && $output == *"[--stop COMMAND --start COMMAND]"* ]]
}

@test "without a DevStack it says where it has looked" {
    DEVSTACK_DIR=$BATS_TEST_TMPDIR/nowhere run verify
    [[ $status == 2 && $output == *"DEVSTACK_DIR=$BATS_TEST_TMPDIR/nowhere"* ]]
}
