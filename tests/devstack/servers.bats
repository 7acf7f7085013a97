#!/usr/bin/env bats
# How a server of the plugin's own is installed, started, stopped, removed.

# shellcheck disable=SC2030,SC2031

load helper

setup() {
    sandbox_setup
    ROOT=$(cd "$BATS_TEST_DIRNAME/../.." && pwd)
}

teardown() {
    influxdb_stops
}

# An influxd listens where the container or the package's service would.
server_listens() {
    gnocchi_is_configured
    influxdb_starts
    export GNOCCHI_INFLUXDB_PORT=$PORT
}

dropin() {
    cat "$SYSTEMD_DIR/influxdb.service.d/gnocchi-influxdb.conf"
}

@test "docker: it is the default, with the image that is tested elsewhere" {
    run grep -h "image: influxdb:" "$ROOT/docker-compose.yml"
    image=${output##* }
    docker_is_there
    run stack "stack pre-install" "stack install"
    succeeds
    called "docker pull $image"
}

@test "docker: an image that is there is not pulled" {
    docker_is_there
    export GNOCCHI_INFLUXDB_IMAGE=influxdb:2.9
    run stack "stack install" "stack install"
    succeeds
    [[ $(grep -c "docker pull influxdb:2.9" "$CALLS") == 1 ]]
}

@test "docker: an image that can't be pulled is told with the ways out" {
    docker_is_there
    : >"$DOCKER/is-offline"
    run stack "stack install"
    dies_with "can't be pulled: name one that can"
    [[ $output == *GNOCCHI_INFLUXDB_IMAGE*GNOCCHI_INFLUXDB_INSTALL=package* ]]
}

@test "docker: a container that can't be started is told with its port" {
    docker_is_there
    server_listens
    : >"$DOCKER/port-is-taken"
    run stack "stack post-config"
    dies_with "GNOCCHI_INFLUXDB_PORT is $PORT"
}

@test "what can't be installed or started is told with the ways out" {
    FAILING=install_package run stack "stack install"
    dies_with "GNOCCHI_INFLUXDB_INSTALL=package or existing does without"
    command_runs apt-cache "exit 0"
    GNOCCHI_INFLUXDB_INSTALL=package FAILING=install_package \
        run stack "stack install"
    dies_with "influxdb2 (GNOCCHI_INFLUXDB_PACKAGE) can't be installed"
    docker_is_there
    : >"$DOCKER/is-down"
    FAILING=start_service run stack "stack install"
    dies_with "Docker's engine can't be started"
}

@test "docker: the distribution's is installed if there is none" {
    # It can't get there here: what comes next is not found.
    run -127 stack "stack install"
    called "install_package docker.io"
    called "start_service docker"
}

@test "docker: it is not installed where that would be guesswork" {
    DISTRIBUTION=fedora run stack "stack install"
    dies_with "installed for you on Ubuntu and Debian only"
}

@test "docker: an engine that is down is started" {
    docker_is_there
    : >"$DOCKER/is-down"
    run stack "stack install"
    succeeds
    called "start_service docker"
    rm "$DOCKER/is-down" "$CALLS"
    run stack "stack install"
    succeeds
    not_called "start_service docker"
}

@test "docker: post-config runs a server for this host only, and sets it up" {
    docker_is_there
    server_listens
    run stack "stack post-config"
    succeeds
    called "docker run --detach --name gnocchi-influxdb"
    called "--publish 127.0.0.1:$PORT:8086"
    called "--volume gnocchi-influxdb:/var/lib/influxdb2"
    # influxd ends cleanly on this one only.
    called "--stop-signal SIGINT"
    called "--env INFLUXD_PPROF_DISABLED=true"
    called_before "docker run" "gnocchi-upgrade"
    [[ $(conf storage influxdb_url) == "http://127.0.0.1:$PORT" ]]
}

@test "docker: a container that runs is left alone" {
    docker_is_there
    server_listens
    run stack "stack post-config" "stack post-config"
    succeeds
    [[ $(grep -c "docker run" "$CALLS") == 1 ]]
    not_called "docker stop"
}

@test "docker: a container of another image is replaced, its data stay" {
    docker_is_there
    server_listens
    run stack "stack post-config"
    succeeds
    GNOCCHI_INFLUXDB_IMAGE=influxdb:2.9 run stack "stack post-config"
    succeeds
    called_before "docker stop" "docker rm"
    [[ $(grep -c "docker run" "$CALLS") == 2 ]]
    not_called "docker volume rm"
}

@test "docker: unstack stops the server, the next stack starts it" {
    docker_is_there
    server_listens
    run stack "stack post-config" unstack
    succeeds
    [[ $(<"$DOCKER/container/gnocchi-influxdb") == "false "* ]]
    [[ -s $GNOCCHI_CONF_DIR/influxdb/token ]]
    run stack "stack post-config"
    succeeds
    [[ $(<"$DOCKER/container/gnocchi-influxdb") == "true "* ]]
}

@test "docker: clean removes server, data and credentials" {
    docker_is_there
    server_listens
    run stack "stack post-config" unstack clean
    succeeds
    [[ ! -e $DOCKER/container/gnocchi-influxdb ]]
    [[ ! -e $DOCKER/volume/gnocchi-influxdb ]]
    [[ ! -e $GNOCCHI_CONF_DIR/influxdb ]]
}

@test "docker: clean wakes an engine that is down" {
    docker_is_there
    : >"$DOCKER/is-down"
    run stack clean
    succeeds
    called_before "start_service docker" "docker container inspect"
}

@test "docker: unstack and clean before, or twice, do no harm" {
    run stack unstack clean
    succeeds
    docker_is_there
    run stack unstack clean clean
    succeeds
}

@test "package: it is installed to listen on one address from the start" {
    command_runs apt-cache "exit 0"
    GNOCCHI_INFLUXDB_INSTALL=package run stack "stack install"
    succeeds
    called_before "gnocchi-influxdb.conf" "install_package influxdb2"
    called_before "systemctl daemon-reload" "install_package influxdb2"
    run dropin
    [[ $output == *"INFLUXD_HTTP_BIND_ADDRESS=127.0.0.1:8086"* ]]
    [[ $output == *"INFLUXD_PPROF_DISABLED=true"* ]]
    [[ $output == *"KillSignal=SIGINT"* ]]
    not_called "sources.list.d"
}

@test "package: InfluxData's repository is added where it is needed" {
    command_runs apt-cache "exit 100"
    # The key, and what gpg says of it.
    command_runs curl ": >\"\$BATS_TEST_TMPDIR/fetched\"; while [[ \$1 != --output ]]; do shift; done; echo key >\"\$2\""
    command_runs gpg "printf '%s\n' pub:: fpr:::::::::24C975CBA61A024EE1B631787C3D57159FC2F927: sub:: fpr:::::::::9D539D90D3328DC7D6C8D3B9D8FF8E1F7DF8B07E:"
    GNOCCHI_INFLUXDB_INSTALL=package run stack "stack install"
    succeeds
    called "deb [signed-by=/etc/apt/keyrings/gnocchi-influxdb.asc] https://repos.influxdata.com/debian stable main"
    called_before "sources.list.d/gnocchi-influxdb.list" "install_package influxdb2"
    [[ $(grep curl "$LINES") == *"https://repos.influxdata.com/influxdata-archive.key" ]]
}

@test "package: a repository with another key, or one more, is refused" {
    command_runs apt-cache "exit 100"
    command_runs curl "while [[ \$1 != --output ]]; do shift; done; echo key >\"\$2\""
    export GNOCCHI_INFLUXDB_INSTALL=package TMPDIR=$BATS_TEST_TMPDIR/tmp
    mkdir "$TMPDIR"
    command_runs gpg "printf '%s\n' pub:: fpr:::::::::AAAA:"
    run stack "stack install"
    dies_with "is AAAA, not 24C975CBA61A024EE1B631787C3D57159FC2F927"
    command_runs gpg "printf '%s\n' pub:: fpr:::::::::24C975CBA61A024EE1B631787C3D57159FC2F927: pub:: fpr:::::::::AAAA:"
    run stack "stack install"
    dies_with "GNOCCHI_INFLUXDB_PACKAGE_KEY"
    command_runs curl "exit 6"
    run stack "stack install"
    dies_with "(GNOCCHI_INFLUXDB_PACKAGE_REPO) can't be fetched"
    not_called "sources.list.d"
    not_called keyrings
    not_called "install_package influxdb2"
    # Nor is anything left behind.
    [[ -z $(ls -A "$TMPDIR") ]]
}

@test "package: no repository is added if local.conf says so" {
    command_runs apt-cache "exit 100"
    GNOCCHI_INFLUXDB_INSTALL=package GNOCCHI_INFLUXDB_PACKAGE_REPO="" \
        run stack "stack install"
    succeeds
    not_called "sources.list.d"
    called "install_package influxdb2"
}

@test "package: one that was there before is used, and left alone" {
    server_listens
    GNOCCHI_INFLUXDB_INSTALL=package INSTALLED=influxdb2 run stack \
        "stack install" "stack post-config" "stack extra" unstack clean
    succeeds
    called "start_service influxdb"
    not_called install_package
    not_called stop_service
    not_called uninstall_package
    not_called "systemctl disable"
    not_called "rm -rf /etc/influxdb"
    not_called "echo_summary Stopping"
    not_called "echo_summary Removing"
    [[ ! -e $SYSTEMD_DIR/influxdb.service.d ]]
    [[ -s $GNOCCHI_CONF_DIR/influxdb/token ]]
}

@test "package: one of the plugin's is stopped, and removed with its data" {
    server_listens
    command_runs apt-cache "exit 0"
    export GNOCCHI_INFLUXDB_INSTALL=package
    export GNOCCHI_INFLUXDB_PACKAGE_DATA_DIR=$SANDBOX/var/lib/influxdb
    mkdir -p "$GNOCCHI_INFLUXDB_PACKAGE_DATA_DIR"
    run stack "stack install" "stack post-config" unstack
    succeeds
    called_before "start_service influxdb" "stop_service influxdb"
    [[ -d $GNOCCHI_INFLUXDB_PACKAGE_DATA_DIR ]]
    run stack clean
    succeeds
    # Not every package does that when it goes.
    called_before "systemctl disable influxdb" "uninstall_package influxdb2"
    called "rm -f /lib/systemd/system/influxdb.service"
    called "rm -rf /etc/influxdb /etc/default/influxdb2"
    called "rm -f /etc/apt/sources.list.d/gnocchi-influxdb.list"
    called "rm -f /etc/apt/keyrings/gnocchi-influxdb.asc"
    [[ ! -e $SYSTEMD_DIR/influxdb.service.d ]]
    [[ ! -e $GNOCCHI_INFLUXDB_PACKAGE_DATA_DIR ]]
    [[ ! -e $GNOCCHI_CONF_DIR/influxdb ]]
    : >"$CALLS"
    run stack clean
    succeeds
    not_called uninstall_package
}
