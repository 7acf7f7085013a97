"""Tests that need a Docker engine: tools/test docker starts one."""

import pytest
from servers import docker


def pytest_collection_modifyitems(items):
    trouble = docker.trouble()
    if trouble is not None:
        for item in items:
            if "tests/docker/" in item.nodeid:
                item.add_marker(pytest.mark.skip(reason=trouble))
