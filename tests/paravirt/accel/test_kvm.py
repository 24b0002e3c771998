"""Virtual machines of KVM, where the kernel does not just do as it is told."""

from __future__ import annotations

import mmap
import signal
import threading
import time

import pytest

from paravirt import Machine, MachineConfig
from paravirt.boot.bundled import find_image

MAPPINGS = 20_000  # the more there are, the longer the kernel takes all their locks
SIGNALS = 1000  # an end to them: a machine may take longer than their period
PERIOD_S = 0.0005


@pytest.mark.kvm
@pytest.mark.only_kvm("it makes virtual machines of the kernel's")
def test_signals_while_machines_are_made() -> None:
    """The kernel gives up making one when anything waits for the thread that asks: it is asked again."""
    config, thread = MachineConfig(find_image("hello")), threading.get_ident()
    mappings = [mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | n % 2 * mmap.PROT_WRITE) for n in range(MAPPINGS)]

    def send() -> None:
        for _ in range(SIGNALS):
            signal.pthread_kill(thread, signal.SIGPROF)
            time.sleep(PERIOD_S)

    before = signal.signal(signal.SIGPROF, lambda *_: None)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        while sender.is_alive():
            with Machine(config):
                pass
    finally:
        sender.join()
        signal.signal(signal.SIGPROF, before)
        for mapping in mappings:
            mapping.close()
