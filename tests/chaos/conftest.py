"""The marker of the tests that break things on purpose."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "chaos: real processes under real faults; takes a minute")
