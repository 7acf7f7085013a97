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
"""What can go wrong between Gnocchi and InfluxDB.

::

    gnocchi.storage.StorageError
     └─ InfluxDBError             everything below
         ├─ ConfigurationError    an option is wrong; the message names it
         ├─ UnavailableError      not reached, too slow or overloaded; nothing
         │                        is wrong with the request, so it may be
         │                        repeated as it is
         ├─ AccessError           the token is unknown or lacks a right
         │   └─ ForbiddenError    it is known and lacks a right
         ├─ BucketNotFoundError   the bucket is not there
         ├─ RefusedError          the server will never take this request
         │   └─ PartialWriteError it took some points and refused the others
         ├─ QueryError            the server failed while it answered a query
         ├─ ResponseError         the answer is cut or is not InfluxDB's
         ├─ TooLargeError         a read that takes more than is allowed
         ├─ ReadRefusedError      the same, for Gnocchi's API
         ├─ ReadFailedError       one of the others, for Gnocchi's API
         └─ UpgradeError          one of these, for gnocchi-upgrade

No message ever contains the token.
"""

from collections.abc import Mapping

import webob.exc  # type: ignore[import-untyped]
from gnocchi import storage


class InfluxDBError(storage.StorageError):  # type: ignore[misc]
    """Base of all errors of this package."""


class ConfigurationError(InfluxDBError):
    """An option has a value that can't work."""


class UnavailableError(InfluxDBError):
    """The server can't be reached, is overloaded or answers too late.

    :ivar retry_after: in how many seconds the server asks to come back; None:
        it does not say.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class AccessError(InfluxDBError):
    """The server does not know the token, or the token lacks a right."""


class ForbiddenError(AccessError):
    """The server knows the token, and the token lacks a right."""


class BucketNotFoundError(InfluxDBError):
    """The server knows no such bucket, or does not show it to the token."""


class RefusedError(InfluxDBError):
    """The server refuses the request and will always refuse it.

    :ivar status: the HTTP status.
    :ivar reason: the server's own words.
    """

    def __init__(self, message: str, status: int, reason: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class PartialWriteError(RefusedError):
    """Some points of a write were refused.

    :ivar dropped: how many, as the server says.
    :ivar type_conflict: whether it was for the type of the field. Then it
        says nothing about the shards that it had not come to yet.
    """

    def __init__(
        self,
        message: str,
        status: int,
        reason: str,
        dropped: int,
        type_conflict: bool,
    ) -> None:
        super().__init__(message, status, reason)
        self.dropped = dropped
        self.type_conflict = type_conflict


#: The server has answered, and its answer is about one bucket or the points
#: for it: another bucket may take what is for it.
OF_ONE_BUCKET = (ForbiddenError, BucketNotFoundError, RefusedError)


class QueryError(InfluxDBError):
    """The server reports an error inside its answer, or to a query."""


class ResponseError(InfluxDBError):
    """The answer is incomplete or makes no sense."""


class TooLargeError(InfluxDBError):
    """A read takes more than an option allows."""


def raise_first(failed: Mapping[str, InfluxDBError]) -> None:
    """Raise one of several errors, if there are any.

    :param failed: by name of the archive policy that can't be stored.
    """
    for error in failed.values():
        # One that is raised again and again shall not grow.
        raise error.with_traceback(None)


class ReadFailedError(InfluxDBError, webob.exc.HTTPServiceUnavailable):  # type: ignore[misc]
    """A read failed, and Gnocchi's API answers it with 503.

    Gnocchi has no answer of its own to a storage that fails: the exception
    would end the request without one, and what uwsgi sends then is an empty
    500. But Pecan sends an exception that is an HTTP response as that
    response. The client is not told what the operator finds in the log.

    :param cause: its words are those of this error.
    """

    def __init__(self, cause: InfluxDBError) -> None:
        webob.exc.HTTPServiceUnavailable.__init__(
            self, "Measures can't be read at the moment. Please retry."
        )
        self.args = (str(cause),)

    def __str__(self) -> str:
        return str(self.args[0])


class UpgradeError(InfluxDBError, SystemExit):
    """gnocchi-upgrade can't go on, and the log has said why.

    As a SystemExit it ends that command without a traceback.

    :param cause: its words are those of this error.
    """

    def __init__(self, cause: InfluxDBError) -> None:
        super().__init__(str(cause))
        self.code = 1


class ReadRefusedError(InfluxDBError, webob.exc.HTTPBadRequest):  # type: ignore[misc]
    """A read is too large, and Gnocchi's API answers it with 400.

    :param cause: its words are those of this error, and the client's.
    """

    def __init__(self, cause: TooLargeError) -> None:
        webob.exc.HTTPBadRequest.__init__(self, str(cause))
        self.args = (str(cause),)

    def __str__(self) -> str:
        return str(self.args[0])
