"""Front ends that say anything in any order, and regions for requests in flight that hold anything."""

from __future__ import annotations

import os
import random
import struct
from contextlib import suppress
from pathlib import Path

import pytest

from hypercall_abi.virtqueue import VIRTIO_FEATURE
from paravirt.vhost_user.back_end import BackEnd
from paravirt.vhost_user.messages import INFLIGHT, U64, VERSION, VRING_STATE
from paravirt.vhost_user.messages import Request as R
from tests.support.front_end import FEATURES, GPA, HVA, MEMORY_BYTES, SIZE, Ended, FrontEndPuppet
from tests.support.hostile import check_serves
from tests.support.served_device import wait_for


@pytest.mark.parametrize("packed", [False, True])
def test_regions_of_nonsense(path: Path, packed: bool) -> None:
    """Whatever a region for requests in flight holds, and whenever: nothing outside of anything is touched."""
    rng = random.Random(4)
    features = FEATURES | (VIRTIO_FEATURE.RING_PACKED if packed else 0)
    started = 0
    for turn in range(60):
        with FrontEndPuppet(path) as bad:
            bad.begin(features)
            assert bad.share()
            payload = bad.ask(R.GET_INFLIGHT_FD, INFLIGHT.pack(0, 0, 2, SIZE))
            size_bytes = INFLIGHT.unpack_from(payload)[0]
            region = bytearray(rng.randbytes(size_bytes) if turn % 2 else bytes(size_bytes))
            struct.pack_into("<HH", region, 8, 1, SIZE)
            for entry in range(rng.randrange(SIZE)):
                region[(32 if packed else 16) * (entry + 1)] = 1
            fd = os.memfd_create("region", os.MFD_CLOEXEC)
            os.write(fd, region)
            assert bad.told(R.SET_INFLIGHT_FD, INFLIGHT.pack(size_bytes, 0, 2, SIZE), [fd])
            os.close(fd)
            bad.describe(base=0x8000_8000 if packed else 0)
            with suppress(Ended):
                started += bad.kick()
                os.eventfd_write(bad.kick_fd, 1)
                bad.ask(R.GET_VRING_BASE, VRING_STATE.pack(0, 0))
    assert started
    check_serves(path)


def noise(rng: random.Random, front_end: FrontEndPuppet) -> None:
    """Any request with any numbers, mostly small ones, of nearly the right size."""
    request = rng.choice(list(R))
    size = rng.choice((0, 8, 8, 8, 12, 16, 24, 40, 40, 72, 104))
    numbers = [rng.choice((0, 0, 1, 2, SIZE, GPA, HVA, MEMORY_BYTES, rng.getrandbits(64))) for _ in range(size // 8)]
    payload = b"".join(U64.pack(number) for number in numbers) + bytes(size % 8)
    kinds = (front_end.fd, front_end.kick_fd, front_end.call_fd)
    front_end.say(request, payload, [rng.choice(kinds) for _ in range(rng.choice((0, 0, 1, 1, 2)))], VERSION)


def test_noise(path: Path, back_end: BackEnd) -> None:
    """Sessions of random messages, some after a good beginning."""
    rng = random.Random(6)
    for turn in range(150):
        with FrontEndPuppet(path) as bad, suppress(Ended):
            if turn % 3 == 0:
                bad.start()
                bad.offer_read(rng.randrange(100))
            elif turn % 3 == 1:
                bad.begin()
                bad.share()
                bad.describe(rng.randrange(2))
            for _ in range(20):
                noise(rng, bad)
    check_serves(path)
    wait_for(lambda: back_end.machine.memory.count == 0, "guest memory stays mapped")
