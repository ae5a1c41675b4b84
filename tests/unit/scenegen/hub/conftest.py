"""A hub server for each test."""

from collections.abc import Iterator

import pytest

from tests.hub_server import Hub


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    """An empty hub; neither a proxy nor a token of this machine gets in the way."""
    monkeypatch.setenv("no_proxy", "*")
    for name in ("HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    with Hub().serve() as server:
        yield server
