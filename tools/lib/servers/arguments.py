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

"""What the command lines of tools/demo and tools/soak have in common.

Standard library only: both ask before there is a virtual environment.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable


def parser(program: str, description: str | None) -> argparse.ArgumentParser:
    """A parser that shows the description as it was written."""
    return argparse.ArgumentParser(
        prog=program,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def number(
    kind: type[int] | type[float], lowest: float, highest: float = math.inf
) -> Callable[[str], float]:
    """A type for an argument that is a number of at least `lowest`."""
    allowed = (
        f"{lowest:g} at least"
        if highest == math.inf
        else f"between {lowest:g} and {highest:g}"
    )

    def convert(text: str) -> float:
        value = kind(text)
        if not lowest <= value <= highest:
            raise argparse.ArgumentTypeError(allowed)
        return value

    # argparse says "invalid ... value" of what is no number.
    convert.__name__ = "whole number" if kind is int else "number"
    return convert


def add_json(to: argparse.ArgumentParser) -> None:
    """``--json``, for machines."""
    to.add_argument(
        "--json",
        action="store_true",
        help="the result as JSON, and nothing else, on stdout",
    )
