#!/bin/bash
# Makes the token that Gnocchi uses, unless there is one that InfluxDB knows. It
# may read and write buckets and nothing else. INFLUX_HOST, INFLUX_TOKEN (the
# administrator's) and INFLUX_ORG are in the environment.
set -euo pipefail
directory=${1:-/run/gnocchi}
# Of Gnocchi in its image.
user=8041

if [[ -s $directory/token ]]; then
    if said=$(INFLUX_TOKEN=$(<"$directory/token") \
        influx bucket list 2>&1 >/dev/null); then
        echo "There is a token already."
        exit 0
    fi
    if [[ $said != *"401 Unauthorized"* ]]; then
        echo "$said" >&2
        exit 1
    fi
    echo "InfluxDB does not know the token of before: it was set up anew, or" \
        "restored. Another is made; restart api and metricd if they run."
fi
umask 077
influx auth create \
    --description gnocchi \
    --read-buckets \
    --write-buckets \
    --json |
    sed -n 's/^[[:space:]]*"token": "\([^"]*\)".*/\1/p' >"$directory/new"
if ! [[ -s $directory/new ]]; then
    echo "influx auth create has shown no token." >&2
    exit 1
fi
chown "$user" "$directory/new"
mv "$directory/new" "$directory/token"
echo "A token was made."
