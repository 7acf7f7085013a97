# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.
"""Options of the drivers.

Gnocchi imports the options of its own drivers by hand, so the drivers here
register theirs when Gnocchi constructs them.
"""

from typing import Any

from oslo_config import cfg

STORAGE_OPTS = [
    cfg.URIOpt(
        "influxdb_url",
        default="http://localhost:8086",
        schemes=["http", "https"],
        help="URL of the InfluxDB server. Use https unless the network "
        "between Gnocchi and InfluxDB is yours alone: each request carries "
        "the token.",
    ),
    cfg.StrOpt(
        "influxdb_token",
        secret=True,
        help="InfluxDB API token with the right to read and write the "
        "`buckets` of the organization, or single buckets that were made by "
        "hand. To make the first bucket of an organization that has none, it "
        "must be able to read `orgs`, too.",
    ),
    cfg.StrOpt(
        "influxdb_org",
        default="gnocchi",
        help="Name of the InfluxDB organization that owns the buckets.",
    ),
    cfg.StrOpt(
        "influxdb_bucket_prefix",
        default="gnocchi-",
        regex=r"^([A-Za-z0-9.-][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]*)?)?$",
        help="Prefix of the buckets' names: the bucket of an archive policy "
        "is this prefix and the policy's name. Letters, digits, dots, dashes, "
        "and underscores except as the first character. A slash stands for "
        "InfluxDB 1.x and clusters: with `gnocchi/` archive policies are "
        "retention policies of the database gnocchi.",
    ),
    cfg.IntOpt(
        "influxdb_replication",
        default=1,
        min=1,
        help="On a cluster, how many data nodes have a copy of each point. It "
        "applies to new retention policies; existing ones stay as they are. "
        "InfluxDB 2.x ignores it.",
    ),
    cfg.StrOpt(
        "influxdb_consistency",
        default="one",
        choices=[
            ("any", "one node has it, maybe only to hand it to another later"),
            ("one", "one copy"),
            ("quorum", "more than half of the copies"),
            ("all", "all copies"),
        ],
        help="On a cluster, how many copies of a point must be on disk "
        "before a write is acknowledged. InfluxDB 2.x ignores it.",
    ),
    cfg.BoolOpt(
        "influxdb_retention",
        default=True,
        help="Let InfluxDB delete what is older than the timespans of the "
        "archive policy. If false, all is kept for ever; Gnocchi still "
        "answers the timespans only.",
    ),
    cfg.StrOpt(
        "influxdb_expunge",
        default="delete",
        choices=[
            ("delete", "gnocchi-metricd deletes all that InfluxDB has of it"),
            ("expire", "what InfluxDB has of it expires with its bucket"),
        ],
        help="What becomes of a deleted metric's points. Nobody can reach "
        "them through Gnocchi any more, so where thousands of metrics are "
        "deleted each day they may as well expire, which costs nothing; "
        "whoever looks into InfluxDB sees them until then. What a bucket "
        "without retention has is always deleted.",
    ),
    cfg.FloatOpt(
        "influxdb_timeout",
        default=30,
        min=0.1,
        help="Seconds that InfluxDB may take to answer one request; a write "
        "120 at most.",
    ),
    cfg.IntOpt(
        "influxdb_max_retries",
        default=3,
        min=0,
        help="How often a request is repeated when InfluxDB can't answer at "
        "the moment: no connection, too busy, timeout. No repetition begins "
        "later than influxdb_timeout after the first attempt.",
    ),
    cfg.IntOpt(
        "influxdb_batch_size",
        default=10000,
        min=1,
        max=1000000,
        help="Largest number of points in one write.",
    ),
    cfg.BoolOpt(
        "influxdb_metric_info",
        default=True,
        help="Write what a metric is called (its name, unit, resource, "
        "archive policy and creator) beside its measures, as measurement "
        "`metric_info`, for those who look into InfluxDB without Gnocchi: "
        "dashboards, say. gnocchi-metricd does it, with [incoming] driver = "
        "influxdb, within some minutes after the first measure or a change, "
        "and once a week; with another driver, `gnocchi-influxdb names`.",
    ),
    cfg.BoolOpt(
        "influxdb_downsampling",
        default=True,
        help="Let gnocchi-metricd downsample: each definition of an archive "
        "policy but the finest gets a bucket of its own for its windows, and "
        "points expire after the finest timespan. If false, points are kept "
        "for the longest timespan, and all is computed from them when it is "
        "asked for. Not for clusters.",
    ),
    cfg.IntOpt(
        "influxdb_raw_slack",
        default=36 * 3600,
        min=3600,
        max=3650 * 86400,
        help="Seconds for which points of a policy with several definitions "
        "are kept beyond what the finest one asks for. Measures may be late "
        "by the finest timespan and half of this; and gnocchi-metricd may "
        "stand still for a quarter of this before points have to be kept for "
        "longer. Raise it for as long as old measures are imported.",
    ),
    cfg.StrOpt(
        "influxdb_query_language",
        default="auto",
        choices=[
            ("auto", "the faster one for each query"),
            ("flux", "Flux only"),
            ("influxql", "InfluxQL only"),
        ],
        help="Language of the queries. Both give the same answers.",
    ),
    cfg.IntOpt(
        "influxdb_max_points",
        default=3000000,
        min=0,
        help="Measures of one metric that a read may take from InfluxDB, or "
        "aggregates of one granularity where InfluxDB makes them. A request "
        "for more is answered 400. A month of a measure a second is "
        "2,700,000. They are counted, in a request of its own, only where a "
        "range could hold more of a measure a second. 0: no limit.",
    ),
    cfg.IntOpt(
        "influxdb_max_aggregates",
        default=10000000,
        min=0,
        help="Aggregates of all metrics of one request to Gnocchi's API, "
        "which holds them until the last one is read: 64 bytes each if they "
        "are aggregated, 500 if all are sent. A request for more is answered "
        "400. A thousand metrics have so many in a week of minutes or a year "
        "of hours. 0: no limit.",
    ),
    cfg.BoolOpt(
        "influxdb_health",
        default=True,
        help="Let each process of Gnocchi write once a minute what it counts "
        "(measures stored, refused and queued, reads and writes and how long "
        "they took, what waits, how far downsampling is behind), as one point "
        "in the bucket `@health` behind influxdb_bucket_prefix, which keeps "
        "it for a week. Dashboards show it, and `gnocchi-influxdb status` "
        "sums it up.",
    ),
    cfg.BoolOpt(
        "influxdb_gzip",
        default=False,
        help="Compress requests to InfluxDB and its answers. Worth it only on "
        "a slow network.",
    ),
    cfg.StrOpt(
        "influxdb_cafile",
        help="File (PEM) with certificates of authorities, to check the "
        "server's certificate against instead of the system's authorities.",
    ),
    cfg.StrOpt(
        "influxdb_certfile",
        help="File (PEM) with the client certificate, for a server that asks "
        "for one.",
    ),
    cfg.StrOpt(
        "influxdb_keyfile",
        help="File (PEM) with the private key of influxdb_certfile, unless "
        "that file holds it.",
    ),
    cfg.BoolOpt(
        "influxdb_insecure",
        default=False,
        help="Do not check the server's certificate.",
    ),
]

INCOMING_OPTS = [
    cfg.StrOpt(
        "influxdb_queue_driver",
        default="file",
        help="Gnocchi's own incoming driver that holds measures while "
        "InfluxDB can't take them: `file` for one API host, `redis` or "
        "another shared one for several.",
    ),
]


def register(group: Any) -> Any:
    """Register the options where Gnocchi's own are.

    :param group: the group (``conf.storage`` or ``conf.incoming``) that
        Gnocchi constructs a driver with.
    :return: the whole configuration.
    """
    # A driver is given a group only, but its own options live in two.
    conf = group._conf
    conf.register_opts(STORAGE_OPTS, group="storage")
    conf.register_opts(INCOMING_OPTS, group="incoming")
    return conf


def list_opts() -> list[tuple[str, list[Any]]]:
    """Entry point of oslo-config-generator."""
    return [("storage", STORAGE_OPTS), ("incoming", INCOMING_OPTS)]
