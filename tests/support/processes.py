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
"""Work in several processes at once."""

import multiprocessing


def own_indexer(indexer_driver):
    """Connections of one's own to the same database, for a child process."""
    return type(indexer_driver)(indexer_driver.conf)


def in_processes(number, work):
    """Run work(number of the process) in processes that begin at once.

    :return: the outcome of each, an exception as its repr.
    """
    context = multiprocessing.get_context("fork")
    barrier, outcomes = context.Barrier(number), context.Queue()

    def run(i):
        barrier.wait(60)
        try:
            outcomes.put((i, work(i)))
        except BaseException as e:
            outcomes.put((i, repr(e)))

    processes = [context.Process(target=run, args=(i,)) for i in range(number)]
    for process in processes:
        process.start()
    try:
        found = dict(outcomes.get(timeout=120) for _ in processes)
    finally:
        for process in processes:
            process.join(20)
            if process.is_alive():
                process.kill()
    return [found[i] for i in range(number)]
