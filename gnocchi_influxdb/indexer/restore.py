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
"""Resources that had ended and have measures again."""

import datetime
import uuid
from collections.abc import Mapping
from typing import Any

import daiquiri
import numpy
from gnocchi import indexer as gnocchi_indexer
from gnocchi import utils

from gnocchi_influxdb import schema

LOG = daiquiri.getLogger(__name__)


def restore_resources(
    indexer: Any,
    newest: Mapping[uuid.UUID, numpy.datetime64],
    at_once: int,
) -> None:
    """Restore the resources that have a measure at their end or after it.

    Those that were deleted in the meantime are skipped.

    :param newest: the timestamp of each resource's newest measure
    :param at_once: how many the indexer is asked for in one query
    :raises oslo_db.exception.DBError: doing all of it again is harmless
    """
    stuck: dict[uuid.UUID, Exception] = {}
    for ids in utils.grouper(sorted(newest), at_once):
        ended = indexer.list_resources(
            "generic",
            attribute_filter={
                "and": [{"in": {"id": list(ids)}}, {"!=": {"ended_at": None}}]
            },
        )
        for resource in ended:
            if _is_outlived(resource, newest[resource.id]):
                try:
                    _restore_resource(
                        indexer, resource.id, newest[resource.id]
                    )
                except gnocchi_indexer.UnexpectedResourceTypeState as e:
                    # The rest of the batch shall not suffer; the resource is
                    # still marked as ended, so its next measure restores it.
                    stuck[resource.id] = e
            else:
                LOG.debug(
                    "Resource [%s] has ended at [%s]. It is not restored, as "
                    "its latest measurement is of [%s].",
                    resource.id,
                    resource.ended_at,
                    newest[resource.id],
                )
    if stuck:
        # One line: it may concern all resources of a type.
        some = next(iter(stuck))
        LOG.warning(
            "%s cannot be restored yet, [%s] for one: %s",
            schema.counted(len(stuck), "resource"),
            some,
            stuck[some],
        )


def _is_outlived(resource: Any, latest: numpy.datetime64) -> bool:
    """Tell whether a resource has a measure at its end or after it.

    Exact to the microsecond, which is what the database keeps: an end on a
    microsecond is after a time if and only if it is after the microsecond in
    which that time lies.
    """
    if resource.ended_at is None:
        return False
    microsecond: datetime.datetime = latest.astype("datetime64[us]").item()
    ended_at: datetime.datetime = resource.ended_at
    return ended_at <= microsecond.replace(tzinfo=datetime.timezone.utc)


def _restore_resource(
    indexer: Any, resource_id: uuid.UUID, latest: numpy.datetime64
) -> None:
    """Restore a resource.

    :raises UnexpectedResourceTypeState: its type is being changed.
    """
    # Many may be restored one after the other. Another batch may have done
    # it by now, or a user may have set another end.
    resource = indexer.get_resource("generic", resource_id)
    if resource is None or not _is_outlived(resource, latest):
        return
    try:
        indexer.update_resource(resource.type, resource_id, ended_at=None)
    except (
        gnocchi_indexer.NoSuchResource,
        gnocchi_indexer.NoSuchResourceType,
    ):
        LOG.debug("Resource [%s] was deleted in the meantime.", resource_id)
    else:
        LOG.info(
            "Resource [%s] was marked with a timestamp for the 'ended_at' "
            "field [%s]. It received a measurement of [%s]. Therefore, it "
            "was restored.",
            resource_id,
            resource.ended_at,
            latest,
        )
