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
"""The demonstration: this host's measures through Gnocchi into InfluxDB.

::

    __main__.py   runs it and says how it ended
    arguments.py  the command line
    run.py        the order of things
    services.py   a private Gnocchi: configuration, upgrade, API, metricd
    processes.py  child processes, signals
    host.py       the meters of this host
    feed.py       sends the measures, waits until they can be read
    check.py      compares the answers with what was sent
    report.py     progress, tables, charts, JSON
    traces.py     removes what was written to servers of others
    environment.py  variables, proxies, names
"""
