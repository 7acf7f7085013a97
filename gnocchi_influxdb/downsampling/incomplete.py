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
"""Windows of which points may be missing.

A migration stores windows without their points, and points may have expired
before their bucket was made longer: see `Watermark.whole`. Such a window must
not be replaced by one that is made of the few points that came later. Where a
metric has none, one is made of what there is, and noted as such, so that it
is made again when more points come.
"""

import uuid
from collections.abc import Sequence

import numpy

from gnocchi_influxdb import schema
from gnocchi_influxdb.buckets.policy import PolicyBucket
from gnocchi_influxdb.downsampling.source import PointSource
from gnocchi_influxdb.read.coalescing import Rows
from gnocchi_influxdb.schema import Array

# More than there are windows between two times.
_WINDOWS = 2**40

#: Owners, times and values as `line_protocol.windows` wants them.
Windows = tuple[Array, Array, dict[str, Array]]


def fill_in(
    source: PointSource,
    target: PolicyBucket,
    whole: int,
    ids: Sequence[uuid.UUID],
    made: Windows,
) -> Windows:
    """Those of some windows that may be written.

    :param target: the bucket of the windows.
    :param whole: of the bucket's watermark, ns.
    :param ids: of the metrics.
    :param made: windows that were made of points.
    """
    owners, times, values = made
    is_old = times < whole
    if not is_old.any():
        return made
    start = int(times[is_old].min())
    stop = min(int(times[is_old].max()) + target.every, whole)
    here = [ids[owner] for owner in numpy.unique(owners[is_old])]

    def keys(rows: Rows, least: float | None = None) -> Array:
        found = [numpy.empty(0, dtype="int64")]
        for owner, id_ in enumerate(ids):
            if id_ in rows:
                one = rows[id_]
                if least is not None:
                    one = one[one["values"] >= least]
                found.append(_keys(owner, one["timestamps"].view("int64")))
        return numpy.concatenate(found)

    def _keys(of: int | Array, starts: Array) -> Array:
        return of * _WINDOWS + (starts - start) // target.every

    there = [
        keys(source.windows(target.name, here, start, stop, method))
        for method in values
    ]
    filled = source.windows(target.name, here, start, stop, schema.FILLED)
    kept = numpy.setdiff1d(
        numpy.concatenate(there), keys(filled, whole / schema.SECOND)
    )
    may = ~is_old | ~numpy.isin(_keys(owners, times), kept)
    found = {method: of_method[may] for method, of_method in values.items()}
    found[schema.FILLED] = numpy.where(
        is_old[may], whole / schema.SECOND, numpy.nan
    )
    return owners[may], times[may], found
