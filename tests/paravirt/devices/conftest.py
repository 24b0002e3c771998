"""What tests of devices run over: `ring_format`, split and packed queues; `engine`, each way to do I/O."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.fake_guest import PluggedDevice


@pytest.fixture(params=["split", "packed"])
def ring_format(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which queues the driver wants of a device."""
    monkeypatch.setattr(PluggedDevice, "packed", request.param == "packed")


@pytest.fixture(params=["auto", "uring", "threads"])
def engine(request: pytest.FixtureRequest) -> Any:
    return request.param
