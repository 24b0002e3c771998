"""Guests that are stations on a network: up while a test talks to them, ended by a datagram."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from paravirt import Machine, MachineConfig
from paravirt.attachments.net import Net
from paravirt.boot.bundled import find_image

from .waiting import wait_for


@dataclass
class Station:
    """A guest that runs."""

    machine: Machine
    console: bytearray


@contextmanager
def running(
    image: str, net: Net, words: str = "", transport: str = "calls", timeout_s: float = 60.0
) -> Iterator[Station]:
    """The guest `image`, up; it is to have ended well when the context ends, before `timeout_s` are over."""
    console = bytearray()
    config = MachineConfig(
        find_image(image),
        devices=(net,),
        command_line=words,
        console=console.extend,
        timeout_s=timeout_s,
        transport=transport,  # type: ignore[arg-type]
    )
    with Machine(config) as machine:
        ends: list[object] = []
        runner = threading.Thread(target=lambda: ends.append(machine.run()))
        runner.start()
        try:
            wait_for(lambda: b"is up" in console or not runner.is_alive(), "the guest does not come up")
            assert b"is up" in console, console.decode()
            yield Station(machine, console)
        except BaseException:
            machine.stop()
            raise
        finally:
            runner.join()
        assert ends and getattr(ends[0], "status", None) == 0, console.decode()
