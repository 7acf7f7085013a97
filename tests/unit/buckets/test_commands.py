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
"""Commands in messages can be copied into a shell."""

import itertools
import shlex
import types

from gnocchi_influxdb.buckets import type_conflicts
from gnocchi_influxdb.buckets.api_2x import BucketAPI
from gnocchi_influxdb.buckets.policy import Bucket, PolicyBucket

ORG = """Ops & Co's "best"; $(reboot)"""
NAME = "my buckets-low"

# Nothing is asked: the organization is all that a command needs.
SERVER = BucketAPI(types.SimpleNamespace(org=ORG))


def options(text, command):
    """The words of a command, up to the semicolon behind it."""
    read = shlex.shlex(
        text.partition(command)[2], posix=True, punctuation_chars=";"
    )
    words = iter(read.get_token, read.eof)
    return list(itertools.takewhile(lambda word: word != ";", words))


def value(words, option):
    return words[words.index(option) + 1]


def test_to_make_a_bucket():
    text = SERVER.to_make(PolicyBucket("low", NAME, 86400))

    words = options(text, "influx bucket create")
    assert value(words, "--org") == ORG
    assert value(words, "--name") == NAME
    assert value(words, "--retention") == "86400s"
    # Rights of a token that is there can't be changed.
    assert value(options(text, "influx auth create"), "--org") == ORG


def test_to_delete_a_shard():
    text = type_conflicts.cure(SERVER, Bucket("id", NAME, 0, 86400), 10**18)

    words = options(text, "influx delete")
    assert value(words, "--org") == ORG
    assert value(words, "--bucket") == NAME
    assert value(words, "--predicate") == '_measurement="measure"'
