"""ELF images and their notes: whatever the file, it is an image, or ImageError says in a line why not."""

from __future__ import annotations

from pathlib import Path

from paravirt.boot.image import check_against_host, check_memory, entry_privilege, parse_image
from paravirt.boot.manifest import plan_devices
from paravirt.boot.symbols import place
from paravirt.errors import ParavirtError

INSTRUMENT = ("paravirt.boot",)
RAM = ((0, 64 << 20),)
OFFERED = dict.fromkeys(range(1, 12), 1)


def one(data: bytes) -> None:
    """Reads `data` as an image, and asks of it all that a machine does."""
    try:
        image = parse_image(memoryview(data), Path("image"))
        for segment in image.segments:
            place(image, segment.gpa)
        check_memory(image, RAM)
        check_against_host(image, OFFERED, 4)
        entry_privilege(image, "user")
        plan_devices(image, ())
    except ParavirtError as error:
        assert "\n" not in str(error), "a mistake is one line"
