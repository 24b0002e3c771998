"""Tests that ask for `ring_format` run over split and over packed queues."""

from __future__ import annotations

import pytest

from tests.support.fake_guest import PluggedDevice


@pytest.fixture(params=["split", "packed"])
def ring_format(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which queues the driver wants of a device."""
    monkeypatch.setattr(PluggedDevice, "packed", request.param == "packed")
