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

"""gnocchi_conf.py [--remove] FILE: set options of a file of oslo.config.

They come on standard input: section, option and value, each ended by a NUL;
an option with an empty value is removed. With --remove all of them are.

DevStack's iniset is not for values that somebody chooses: it takes them for
patterns of file names, joins their blanks and shows them on a command line.
"""

import os
import re
import sys
import tempfile


def written(value):
    """The value, as oslo.config must find it to read it back as it is."""
    # A $ would be the start of an option's name.
    value = value.replace("$", r"\$")
    # Blanks and quotes around it would be taken off.
    if value != value.strip() or value[0] in "'\"":
        value = f'"{value}"'
    return value


def changed(lines, options):
    """The file's lines with the options.

    :param options: value by section and option; an empty one removes.
    """
    new = {}
    for (section, option), value in options.items():
        if value:
            new.setdefault(section, []).append(f"{option} = {written(value)}")
    section = None
    for line in lines:
        header = re.match(r"\[(.*?)\]", line)
        if header is not None:
            section = header[1]
            yield line
            yield from new.pop(section, ())
        elif (section, line.partition("=")[0].strip()) not in options:
            yield line
    for section, added in new.items():
        yield from ("", f"[{section}]", *added)


def main(path, remove=False):
    words = sys.stdin.read().split("\0")[:-1]
    options = {
        (section, option): "" if remove else value
        for section, option, value in zip(
            words[::3], words[1::3], words[2::3], strict=True
        )
    }
    with open(path) as file:
        lines = file.read().splitlines()
    # Beside the file, to replace it in one step. Nobody else may read it.
    handle, new = tempfile.mkstemp(prefix=f"{path}.")
    with open(handle, "w") as file:
        file.writelines(f"{line}\n" for line in changed(lines, options))
    os.replace(new, path)


if __name__ == "__main__":
    main(sys.argv[-1], remove="--remove" in sys.argv[1:-1])
