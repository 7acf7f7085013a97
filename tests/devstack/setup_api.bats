#!/usr/bin/env bats
# The set-up over InfluxDB's API, on a real server that nobody has set up, and
# where the secrets of it go.

# shellcheck disable=SC2016,SC2030,SC2031,SC2034

load helper

setup() {
    sandbox_setup
    gnocchi_is_configured
    influxdb_starts
    export GNOCCHI_INFLUXDB_INSTALL=existing GNOCCHI_INFLUXDB_URL=$URL
    unset output
}

teardown() {
    influxdb_stops
}

may_be_set_up() {
    [[ $(curl --silent --noproxy '*' "$URL/api/v2/setup") == *": $1"* ]]
}

# The server as if another had set it up: without the plugin's files.
was_set_up_by_another() {
    run stack "stack post-config"
    succeeds
    TOKEN=$(<"$GNOCCHI_CONF_DIR/influxdb/operator-token")
    rm -r "$GNOCCHI_CONF_DIR/influxdb"
    gnocchi_is_configured
}

# token_for what: a token that may read only that of the organization.
token_for() {
    local org
    org=$(api "/api/v2/orgs?org=gnocchi" | grep -Eo '"id": "[^"]+"')
    api /api/v2/authorizations \
        --header "Content-Type: application/json" --data "{${org/id/orgID},
            \"permissions\": [{\"action\": \"read\", \"resource\":
            {\"type\": \"$1\", ${org/id/orgID}}}]}" \
        | grep -Eo '"token": "[^"]+"' | cut -d '"' -f 4
}

@test "a new server gets an organization, a user and a random token" {
    may_be_set_up true
    run stack "stack post-config"
    succeeds
    may_be_set_up false
    run api /api/v2/orgs
    [[ $output == *'"name": "gnocchi"'* ]]
    run api /api/v2/users
    [[ $output == *'"name": "admin"'* ]]
    # The password is the one that was kept.
    run curl --silent --noproxy '*' --output /dev/null \
        --write-out '%{http_code}' --request POST "$URL/api/v2/signin" \
        --user "admin:$(<"$GNOCCHI_CONF_DIR/influxdb/password")"
    [[ $output == 204 ]]
}

@test "the token may do what the driver does" {
    run stack "stack post-config"
    succeeds
    org=$(api "/api/v2/orgs?org=gnocchi" | grep -Eo '"id": "[^"]+"')
    run api_with token /api/v2/buckets \
        --header "Content-Type: application/json" --data "{\"name\": \"gnocchi-low\", ${org/id/orgID}}" \
        --output /dev/null --write-out '%{http_code}'
    [[ $output == 201 ]]
    run api_with token "/api/v2/write?org=gnocchi&bucket=gnocchi-low" \
        --data "measure value=1" --write-out '%{http_code}'
    [[ $output == 204 ]]
}

@test "the token may do nothing else, and the operator's lies aside" {
    run stack "stack post-config"
    succeeds
    [[ $(conf storage influxdb_token) == \
        "$(<"$GNOCCHI_CONF_DIR/influxdb/token")" ]]
    run ! grep -rqFf "$GNOCCHI_CONF_DIR/influxdb/operator-token" \
        "$GNOCCHI_CONF_DIR/gnocchi.conf" "$GNOCCHI_CONF_DIR/influxdb/token"
    # An operator sees its tokens, this one has none to see.
    run api /api/v2/authorizations
    [[ $output == *'"Gnocchi"'* ]]
    run api_with token /api/v2/authorizations
    [[ $output == *'"authorizations": []'* ]]
    for path in users authorizations; do
        run api_with token "/api/v2/$path" --data '{"name": "mallory"}' \
            --output /dev/null --write-out '%{http_code}'
        [[ $output == 4* ]]
    done
}

@test "a stack.sh that ended before the token was made goes on there" {
    run stack "stack post-config"
    succeeds
    rm "$GNOCCHI_CONF_DIR/influxdb/token"
    run stack "stack post-config"
    succeeds
    run api_with token "/api/v2/buckets?org=gnocchi"
    [[ $output == *'"buckets": ['*'"id"'* ]]
}

@test "a server that has lost its data gets a new token" {
    run stack "stack post-config"
    succeeds
    token=$(<"$GNOCCHI_CONF_DIR/influxdb/token")
    influxdb_stops
    rm "$BATS_TEST_TMPDIR/url"
    influxdb_starts
    GNOCCHI_INFLUXDB_URL=$URL run stack "stack post-config"
    succeeds
    [[ $(conf storage influxdb_token) != "$token" ]]
    [[ $(conf storage influxdb_url) == "$URL" ]]
}

@test "an operator's token that is no more is named by its file" {
    run stack "stack post-config"
    succeeds
    rm "$GNOCCHI_CONF_DIR/influxdb/token"
    echo wrong-token >"$GNOCCHI_CONF_DIR/influxdb/operator-token"
    run stack "stack post-config"
    dies_with "refuses the token of $GNOCCHI_CONF_DIR/influxdb/operator-token"
    [[ ! -e $GNOCCHI_CONF_DIR/influxdb/token ]]
}

@test "only the stack user can read the secrets" {
    run stack "stack post-config"
    succeeds
    [[ $(mode "$GNOCCHI_CONF_DIR/influxdb") == 700 ]]
    [[ $(mode "$GNOCCHI_CONF_DIR/influxdb/token") == 600 ]]
    [[ $(mode "$GNOCCHI_CONF_DIR/influxdb/operator-token") == 600 ]]
    [[ $(mode "$GNOCCHI_CONF_DIR/influxdb/password") == 600 ]]
    [[ $(mode "$GNOCCHI_CONF_DIR/gnocchi.conf") == 600 ]]
}

@test "made secrets are in no trace, no command line, no output" {
    run stack "stack pre-install" "stack install" "stack post-config" \
        "stack extra" "stack post-config"
    succeeds
    is_secret "$(<"$GNOCCHI_CONF_DIR/influxdb/token")"
    is_secret "$(<"$GNOCCHI_CONF_DIR/influxdb/operator-token")"
    is_secret "$(<"$GNOCCHI_CONF_DIR/influxdb/password")"
}

@test "given secrets are in no trace, no command line, no output" {
    export GNOCCHI_INFLUXDB_TOKEN=a-token-of-mine
    export GNOCCHI_INFLUXDB_PASSWORD=a-password-of-mine
    run stack "stack pre-install" "stack install" "stack post-config" \
        "stack extra" "stack post-config"
    succeeds
    is_secret "$GNOCCHI_INFLUXDB_TOKEN"
    is_secret "$GNOCCHI_INFLUXDB_PASSWORD"
    # Gnocchi gets a token of its own; the given one is the operator's.
    run grep -rlE "a-(token|password)-of-mine" "$SANDBOX"
    [[ $output == "$GNOCCHI_CONF_DIR/influxdb/operator-token" ]]
}

@test "secrets stay secret when the set-up fails" {
    export GNOCCHI_INFLUXDB_TOKEN=a-token-of-mine
    GNOCCHI_INFLUXDB_PASSWORD=short run stack "stack post-config"
    dies_with "passwords must be between 8 and 72 characters long"
    is_secret "$GNOCCHI_INFLUXDB_TOKEN"
}

@test "a set-up that failed can be repeated, with the secrets made before" {
    GNOCCHI_INFLUXDB_PASSWORD=short run stack "stack post-config"
    dies_with "can't be set up"
    token=$(<"$GNOCCHI_CONF_DIR/influxdb/operator-token")
    run stack "stack post-config"
    succeeds
    [[ $(<"$GNOCCHI_CONF_DIR/influxdb/operator-token") == "$token" ]]
}

@test "organization, user and a token full of special characters are kept" {
    # DevStack's iniset would take the * for names of files, and one blank of
    # the two; oslo.config would look for an option z.
    export GNOCCHI_INFLUXDB_ORG='My "first" org \ & *  more $z \$'
    export GNOCCHI_INFLUXDB_USER=stack
    export GNOCCHI_INFLUXDB_TOKEN='a$b&c\d"e/f|g'"'h=="
    run stack "stack post-config"
    succeeds
    printf 'Authorization: Token %s\n' "$GNOCCHI_INFLUXDB_TOKEN" \
        >"$BATS_TEST_TMPDIR/header"
    run curl --silent --noproxy '*' --header "@$BATS_TEST_TMPDIR/header" \
        "$URL/api/v2/orgs"
    [[ $output == *'"name": "My \"first\" org \\ \u0026 *  more $z \\$"'* ]]
    run curl --silent --noproxy '*' --header "@$BATS_TEST_TMPDIR/header" \
        "$URL/api/v2/users"
    [[ $output == *'"name": "stack"'* ]]
    [[ $(gnocchi_reads storage influxdb_org) == "$GNOCCHI_INFLUXDB_ORG" ]]
    # Used as it is, now that no operator's token is known.
    rm -r "$GNOCCHI_CONF_DIR/influxdb"
    run stack "stack post-config"
    succeeds
    [[ $(gnocchi_reads storage influxdb_token) == "$GNOCCHI_INFLUXDB_TOKEN" ]]
}

@test "a token that no header can carry is refused" {
    GNOCCHI_INFLUXDB_TOKEN="two words" run stack "stack post-config"
    dies_with "GNOCCHI_INFLUXDB_TOKEN may not have spaces"
    [[ ! -e $GNOCCHI_CONF_DIR/influxdb ]]
    may_be_set_up true
}

@test "a server that another has set up is used with its token" {
    was_set_up_by_another
    GNOCCHI_INFLUXDB_TOKEN=$TOKEN run stack "stack post-config"
    succeeds
    [[ $(conf storage influxdb_token) == "$TOKEN" ]]
    is_secret "$TOKEN"
    [[ ! -e $GNOCCHI_CONF_DIR/influxdb ]]
}

@test "a server that another has set up needs its token" {
    was_set_up_by_another
    run stack "stack post-config"
    dies_with "give a token of it in GNOCCHI_INFLUXDB_TOKEN"
    [[ $(conf storage driver) == redis ]]
}

@test "a wrong token is told before Gnocchi is touched" {
    was_set_up_by_another
    GNOCCHI_INFLUXDB_TOKEN=wrong-token run stack "stack post-config"
    dies_with "refuses the token of GNOCCHI_INFLUXDB_TOKEN"
    is_secret wrong-token
    [[ $(conf storage driver) == redis ]]
}

@test "a wrong token in the credentials' directory is named by its file" {
    run stack "stack post-config"
    succeeds
    echo wrong-token >"$GNOCCHI_CONF_DIR/influxdb/token"
    run stack "stack post-config"
    dies_with "refuses the token of $GNOCCHI_CONF_DIR/influxdb/token"
}

@test "an organization that is not there is told" {
    run stack "stack post-config"
    succeeds
    GNOCCHI_INFLUXDB_ORG=nobody run stack "stack post-config"
    dies_with "has no organization nobody (GNOCCHI_INFLUXDB_ORG)"
}

@test "a token for buckets does, if there is one that it sees" {
    run stack "stack post-config"
    succeeds
    GNOCCHI_INFLUXDB_TOKEN=$(token_for buckets) \
        run stack "stack post-config"
    succeeds
}

@test "a token that sees nothing of the organization is told" {
    run stack "stack post-config"
    succeeds
    GNOCCHI_INFLUXDB_TOKEN=$(token_for tasks) run stack "stack post-config"
    dies_with "may not read the organization gnocchi"
}

@test "a server that does not come up is told" {
    influxdb_stops
    GNOCCHI_INFLUXDB_TIMEOUT=1 run stack "stack post-config"
    dies_with "$URL is not healthy after 1 s"
    [[ $output == *"onnect"* ]]
}

@test "a server that is no InfluxDB 2.x is told" {
    influxdb_stops
    mkdir "$BATS_TEST_TMPDIR/www"
    echo fine >"$BATS_TEST_TMPDIR/www/health"
    "${PYTHON:-python3}" -m http.server --bind 127.0.0.1 \
        --directory "$BATS_TEST_TMPDIR/www" "$PORT" >/dev/null 2>&1 3>&- &
    # As its process, teardown ends it.
    INFLUXD=$!
    run stack "stack post-config"
    dies_with "is not an InfluxDB 2.x"
}
