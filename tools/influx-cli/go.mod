// Pins InfluxDB's command line: see tools/lib/servers/influx_cli.py. It is the
// revision that InfluxDB 2.9 is built with itself.
module gnocchi-influxdb/influx-cli

go 1.21

require github.com/influxdata/influx-cli/v2 v2.7.1-0.20250130214939-76d1c4d9b777
