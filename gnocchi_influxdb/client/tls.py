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
"""The options about secrets and TLS, checked before they are used.

What the TLS library says about them names neither the option nor the file.
"""

import contextlib
import ipaddress
import ssl
import urllib.parse
from collections.abc import Iterator
from typing import Any

import daiquiri

from gnocchi_influxdb import exceptions
from gnocchi_influxdb.client import api

LOG = daiquiri.getLogger(__name__)


def is_loopback(host: str | None) -> bool:
    """Whether what is sent to a host stays on this one."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def context(conf: Any) -> ssl.SSLContext | None:
    """Check the options of connections and make their TLS context.

    :return: None for a server without TLS.
    :raises ConfigurationError: naming the option, never the token.
    """
    # A password may be anything: it travels encoded.
    is_token = api.of(conf).capabilities.tokens
    if is_token and not _can_be_sent(conf.influxdb_token or ""):
        raise exceptions.ConfigurationError(
            "[storage] influxdb_token holds characters that no token has (a"
            " line break, perhaps)"
        )
    url = urllib.parse.urlsplit(conf.influxdb_url)
    if url.scheme == "http":
        if conf.influxdb_token and not is_loopback(url.hostname):
            LOG.warning(
                "[storage] influxdb_url uses http: the token and all"
                " measures cross the network readable for others"
            )
        return None
    if conf.influxdb_insecure:
        LOG.warning(
            "[storage] influxdb_insecure is set: InfluxDB's certificate is"
            " not checked, so anybody on the network can pose as it"
        )
    with _naming(influxdb_cafile=conf.influxdb_cafile):
        made = ssl.create_default_context(cafile=conf.influxdb_cafile or None)
    if conf.influxdb_insecure:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    made.set_alpn_protocols(["http/1.1"])
    if conf.influxdb_certfile:
        with _naming(
            influxdb_certfile=conf.influxdb_certfile,
            influxdb_keyfile=conf.influxdb_keyfile,
        ):
            made.load_cert_chain(
                conf.influxdb_certfile, conf.influxdb_keyfile, _no_password
            )
    if conf.influxdb_keyfile and not conf.influxdb_certfile:
        raise exceptions.ConfigurationError(
            "[storage] influxdb_keyfile needs influxdb_certfile"
        )
    return made


def _can_be_sent(token: str) -> bool:
    # On its own, so that no traceback with local variables shows it.
    return token.isascii() and token.isprintable()


def _no_password() -> str:
    # Without this a service would ask for one on its terminal.
    raise OSError("the key is encrypted")


@contextlib.contextmanager
def _naming(**files: str | None) -> Iterator[None]:
    try:
        yield
    except OSError as e:  # which ssl.SSLError is, too
        named = " and ".join(
            f"{option} {path}" for option, path in files.items() if path
        )
        raise exceptions.ConfigurationError(
            f"[storage] {named} can't be used: {e}"
        ) from None
