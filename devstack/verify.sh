#!/usr/bin/env bash
#
# devstack/verify.sh [--stop COMMAND --start COMMAND]
# Looks at a DevStack after stack.sh: does its Gnocchi store in InfluxDB?
#
# Run it as the stack user. It takes about a minute, restarts Gnocchi, and stops
# and starts InfluxDB if that is the plugin's own; --stop and --start say how to
# do that with another. It leaves a metric of its name behind, and an image
# resource. DEVSTACK_DIR names DevStack's directory if that is not beside this
# repository.
#
# Each line is OK, FAIL or SKIP. The exit status is 1 if one is FAIL.

# DevStack's functions are not made for nounset and errexit.
set -o pipefail

VERIFY_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Seconds that something may take to come about.
VERIFY_TIMEOUT=${VERIFY_TIMEOUT:-60}
VERIFY_STOP=""
VERIFY_START=""
VERIFY_FAILED=0

function ok {
    echo "OK    $*"
}

function skip {
    echo "SKIP  $*"
}

function bad {
    echo "FAIL  $*"
    VERIFY_FAILED=1
}

# expect what command ...: OK if the command succeeds
function expect {
    local what=$1
    shift
    if "$@"; then ok "$what"; else bad "$what"; fi
}

# eventually command ...: until it succeeds
function eventually {
    local deadline=$((SECONDS + VERIFY_TIMEOUT))
    until "$@"; do
        if ((SECONDS >= deadline)); then
            return 1
        fi
        sleep 1
    done
}

# conf section option: the value that Gnocchi reads; nothing if there is none
function conf {
    "$VERIFY_PYTHON" -c '
import sys
from oslo_config import cfg
path, section, option = sys.argv[1:]
conf = cfg.ConfigOpts()
conf.register_opts([cfg.StrOpt(option, default="")], group=section)
conf([], default_config_files=[path])
print(conf[section][option])' "$GNOCCHI_CONF" "$1" "$2"
}

# influxdb path [curl's arguments ...]: ask InfluxDB with Gnocchi's token
function influxdb {
    local path=$1 url cafile
    shift
    url=$(conf storage influxdb_url)
    cafile=$(conf storage influxdb_cafile)
    printf 'Authorization: Token %s\n' "$(conf storage influxdb_token)" \
        | curl --silent --noproxy '*' --max-time 20 --header @- \
            ${cafile:+--cacert "$cafile"} "$@" "${url%/}$path"
}

# influxdb_has metric: InfluxDB has a measure of it
function influxdb_has {
    local org bucket
    while IFS=$'\t' read -r org bucket; do
        if influxdb "/api/v2/query?orgID=$org" \
            --header "Content-Type: application/vnd.flux" --data-binary \
            "from(bucket: \"$bucket\") |> range(start: -1d, stop: 1d)
                |> filter(fn: (r) => r.metric == \"$1\")
                |> filter(fn: (r) => r._measurement == \"measure\")" \
            | grep --fixed-strings --quiet --regexp "$1"; then
            return
        fi
    done < <(influxdb_buckets)
    return 1
}

# influxdb_buckets: organization's id, tab and name of those that Gnocchi sees
function influxdb_buckets {
    influxdb "/api/v2/buckets?limit=100" | "$VERIFY_PYTHON" -c '
import json, sys
buckets = json.load(sys.stdin)["buckets"]
print(*(b["orgID"] + "\t" + b["name"] for b in buckets if b["type"] == "user"),
    sep="\n")'
}

# gnocchi path [curl's arguments ...]: ask Gnocchi's API with keystone's token
function gnocchi {
    local path=$1
    shift
    printf 'X-Auth-Token: %s\n' "$VERIFY_KEYSTONE_TOKEN" \
        | curl --silent --fail --noproxy '*' --max-time 30 --header @- \
            --header "Content-Type: application/json" "$@" "$VERIFY_API$path"
}

# gnocchi_status: HTTP status of the API without a token
function gnocchi_status {
    curl --silent --noproxy '*' --max-time 30 --output /dev/null \
        --write-out '%{http_code}' "$VERIFY_API/v1/metric?limit=1"
}

# post metric value: a measure of now
function post {
    gnocchi "/v1/metric/$1/measures" --data \
        "[{\"timestamp\": \"$(date --utc +%Y-%m-%dT%H:%M:%S)\", \"value\": $2}]"
}

# reads_back metric value: the API gives the raw value back, as a maximum
function reads_back {
    gnocchi "/v1/metric/$1/measures?aggregation=max&refresh=true" \
        | grep --quiet --extended-regexp ", $2(\.0)?\]"
}

# ---- What is looked at, in this order ----

function verify_conf {
    local section
    echo "== $GNOCCHI_CONF"
    expect "only its owner may read it" \
        test "$(stat --format %a "$GNOCCHI_CONF")" == 600
    for section in storage incoming; do
        expect "[$section] driver is influxdb" \
            test "$(conf "$section" driver)" == influxdb
    done
    for section in debug verbose; do
        expect "$section is off, or Gnocchi's log would have the token" \
            grep --quiet --ignore-case "^$section *= *false" "$GNOCCHI_CONF"
    done
}

function verify_token {
    local dir=$GNOCCHI_INFLUXDB_CREDENTIALS_DIR
    echo "== Gnocchi's token"
    expect "InfluxDB takes it, and shows its buckets" \
        test -n "$(influxdb_buckets)"
    if [[ -r "$dir/operator-token" ]]; then
        expect "it is not the operator's" \
            test "$(conf storage influxdb_token)" != "$(<"$dir/operator-token")"
        expect "it may not see tokens" test -z \
            "$(influxdb /api/v2/authorizations | grep '"permissions"')"
    else
        skip "it is not the operator's: InfluxDB was not set up by the plugin"
    fi
    # grep takes it from a descriptor: nobody sees it on a command line.
    if sudo journalctl --unit 'devstack@gnocchi-*' --boot --quiet \
        | grep --quiet --fixed-strings --file <(conf storage influxdb_token)
    then
        bad "it is not in Gnocchi's log"
    else
        ok "it is not in Gnocchi's log"
    fi
    if [[ -r "${LOGFILE:-}" ]]; then
        expect "it is not in $LOGFILE" not_in_file "$LOGFILE"
    fi
}

function not_in_file {
    ! grep --quiet --fixed-strings --file <(conf storage influxdb_token) "$1"
}

function verify_api {
    echo "== Gnocchi's API, $VERIFY_API"
    expect "it refuses without a token of keystone" \
        test "$(gnocchi_status)" == 401
    VERIFY_METRIC=$(gnocchi /v1/metric --data \
        "{\"archive_policy_name\": \"low\", \"name\": \"devstack-verify\"}" \
        | grep --only-matching '"id": *"[^"]*"' | head -n 1 | cut -d '"' -f 4)
    if [[ -z "$VERIFY_METRIC" ]]; then
        bad "it makes a metric with one"
        return
    fi
    ok "it makes a metric with one"
    expect "it takes a measure" post "$VERIFY_METRIC" 1
    expect "and gives it back at once" reads_back "$VERIFY_METRIC" 1
    expect "InfluxDB has it" influxdb_has "$VERIFY_METRIC"
}

function verify_restart {
    echo "== Gnocchi's services, restarted"
    expect "they start" sudo systemctl restart \
        devstack@gnocchi-api.service devstack@gnocchi-metricd.service
    expect "the measure is still there" \
        eventually reads_back "$VERIFY_METRIC" 1
    expect "another is taken" post "$VERIFY_METRIC" 2
    expect "and given back at once" reads_back "$VERIFY_METRIC" 2
}

function verify_outage {
    echo "== InfluxDB, stopped and started"
    local stop=$VERIFY_STOP start=$VERIFY_START
    if [[ -z "$stop" || -z "$start" ]]; then
        if [[ "$GNOCCHI_INFLUXDB_INSTALL" == existing ]]; then
            skip "it is not the plugin's: --stop COMMAND --start COMMAND say how"
            return
        fi
        stop=stop_gnocchi_influxdb start=start_gnocchi_influxdb
    fi
    # In shells of their own, which die may end.
    expect "it stops" eval "($stop) >/dev/null"
    expect "a measure is taken meanwhile" post "$VERIFY_METRIC" 3
    expect "it starts" eval "($start) >/dev/null"
    expect "then the measure is given back" \
        eventually reads_back "$VERIFY_METRIC" 3
}

# As glance would send it: ceilometer makes image.size of it.
function notify {
    "$VERIFY_PYTHON" - "$CEILOMETER_CONF" "$1" "$2" <<'END' 2>/dev/null
import sys
from oslo_config import cfg
import oslo_messaging
path, image, project = sys.argv[1:]
conf = cfg.ConfigOpts()
conf([], default_config_files=[path])
oslo_messaging.set_transport_defaults("glance")
oslo_messaging.Notifier(
    oslo_messaging.get_notification_transport(conf),
    publisher_id="image.devstack-verify",
    driver="messagingv2",
    topics=["notifications"],
).info({}, "image.update", {
    "id": image, "name": "devstack-verify", "size": 4711, "owner": project,
    "status": "active", "container_format": "bare", "disk_format": "raw",
    "properties": {}, "protected": False, "is_public": False,
})
END
}

function verify_ceilometer {
    local image metric=""
    echo "== Ceilometer"
    if ! is_service_enabled ceilometer-anotification; then
        skip "a notification arrives: ceilometer-anotification is not enabled"
        return
    fi
    image=$("$VERIFY_PYTHON" -c 'import uuid; print(uuid.uuid4())')
    expect "a notification is sent" notify "$image" \
        "$(openstack project show demo -f value -c id 2>/dev/null)"
    function image_metric {
        metric=$(gnocchi "/v1/resource/image/$image" \
            | grep --only-matching '"image.size": *"[^"]*"' \
            | cut -d '"' -f 4)
        [[ -n "$metric" ]]
    }
    expect "Gnocchi has its resource" eventually image_metric
    expect "InfluxDB has its measure" eventually influxdb_has "$metric"
}

# Its WARNs are for the operator to read: that the token travels over http, say.
function verify_check {
    local findings status=0
    echo "== gnocchi-influxdb check"
    findings=$(gnocchi-influxdb --config-file "$GNOCCHI_CONF" check 2>&1) \
        || status=$?
    echo "${findings//$'\n'/$'\n'      }" | sed '1s/^/      /'
    expect "it finds nothing that fails" test "$status" -le 1
}

function verify_environment {
    DEVSTACK_DIR=${DEVSTACK_DIR:-$(cd "$VERIFY_DIR/../../devstack" && pwd)}
    if [[ ! -r "$DEVSTACK_DIR/openrc" ]]; then
        echo "There is no DevStack in DEVSTACK_DIR=$DEVSTACK_DIR" >&2
        exit 2
    fi
    # shellcheck source=/dev/null
    source "$DEVSTACK_DIR/openrc" admin admin >/dev/null
    PATH=$DATA_DIR/venv/bin:$PATH
    # shellcheck source=devstack/settings
    source "$VERIFY_DIR/settings"
    # shellcheck source=devstack/lib/influxdb
    source "$VERIFY_DIR/lib/influxdb"
    VERIFY_PYTHON=$(dirname "$(type -P gnocchi-upgrade)")/python3
    CEILOMETER_CONF=${CEILOMETER_CONF:-/etc/ceilometer/ceilometer.conf}
    VERIFY_API=${VERIFY_API:-http://$SERVICE_HOST/metric}
    VERIFY_KEYSTONE_TOKEN=$(openstack token issue -f value -c id)
    if [[ -z "$VERIFY_KEYSTONE_TOKEN" ]]; then
        echo "Keystone gives no token: has stack.sh ended well?" >&2
        exit 2
    fi
}

function verify {
    while (($# > 0)); do
        case $1 in
            --stop) VERIFY_STOP=${2:?} ;;
            --start) VERIFY_START=${2:?} ;;
            *)
                sed -n '/^# devstack/,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
                exit 2
                ;;
        esac
        shift 2
    done
    verify_environment
    verify_conf
    verify_token
    verify_api
    if [[ -n "$VERIFY_METRIC" ]]; then
        verify_restart
        verify_outage
    fi
    verify_ceilometer
    verify_check
    return "$VERIFY_FAILED"
}

# The tests take the functions one by one.
if [[ "${BASH_SOURCE[0]}" == "$0" ]]; then
    verify "$@"
fi
