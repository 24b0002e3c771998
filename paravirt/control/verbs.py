"""What can be asked of a running machine: a function for each verb, of the machine and the request.

They are called from the machine's control thread while no life of it begins or ends, and none takes long: who asks
waits, others wait for it.  Those that may take long have a thread of their own, and a life may end meanwhile.  What
they return is what JSON can hold.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..attachments import KINDS, Attachment
from ..boot.manifest import DEVICE_TYPE
from ..config import parse_disk
from ..errors import ConfigError
from ..outcome import plain
from ..services.continuity import CONTINUITY_EVENT
from . import Request

if TYPE_CHECKING:
    from ..machine import Machine

LEAVE_S = 0.2
REASONS = "resumed", "restored", "cloned", "migrated"


def _word(request: Request, name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str):
        raise ConfigError(f"{request['verb']} needs {name!r}, a text")
    if "\0" in value or not _is_of_bytes(value):
        raise ConfigError(f"{request['verb']}: {name!r} is {value!r}, which no file can be called")
    return value


def _is_of_bytes(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def _size(request: Request, name: str) -> int | None:
    value = request.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63):
        raise ConfigError(f"{request['verb']} takes {name!r} as a number of bytes, not {value!r}")
    return value


def statistics(machine: Machine, _: Request) -> dict[str, Any]:
    """Who it is, whether it is paused, and its counts so far."""
    config = machine.config
    return {
        "name": config.name,
        "uuid": config.uuid.hex(),
        "pid": os.getpid(),
        "accelerator": machine.accelerator.name,
        "memory_bytes": config.memory_bytes,
        "paused": machine.pausing.paused,
        "statistics": plain(machine.statistics()),
    }


def device_list(machine: Machine, _: Request) -> list[dict[str, Any]]:
    """Devices that the guest has, by `name` and `kind`; one that it was asked to give back is `leaving`."""
    found = []
    for device, native in machine.devices.present():
        kind = DEVICE_TYPE.name_of(device.type)
        word = KINDS[kind][0] if kind in KINDS else kind.lower()
        found.append({"name": device.name, "kind": word, "leaving": bool(native.leaving)})
    return found


def parse_attachment(kind: str, text: str) -> Attachment:
    """What arrives: of a kind that can, written as ``paravirt run`` takes it.  Raises ConfigError."""
    from ..attachments.net import Net, parse_net
    from ..attachments.vsock import parse_vsock

    parsers: dict[str, Callable[[str], Attachment]] = {"disk": parse_disk, "net": parse_net, "vsock": parse_vsock}
    if kind not in parsers:
        raise ConfigError(f"a device of the kind {kind!r} does not arrive; there are {', '.join(parsers)}")
    attachment = parsers[kind](text)
    if isinstance(attachment, Net) and attachment.fds:  # which would be any file of the machine's
        raise ConfigError(f"{text!r}: a descriptor is its process's own; plug the network into user, tap: or vhost:")
    return attachment


def device_add(machine: Machine, request: Request) -> None:
    """A device arrives: of the option `kind` of ``paravirt run``, written as `text`; `directory` is who asks's."""
    attachment = parse_attachment(_word(request, "kind"), _word(request, "text"))
    machine.devices.arrive(attachment.seen_from(Path(_word(request, "directory"))))


def device_remove(machine: Machine, request: Request) -> bool:
    """The device `name` is asked for; whether it has gone.  Otherwise it goes when the guest gives it back."""
    return machine.devices.leave(_word(request, "name"), LEAVE_S)


def device_grow(machine: Machine, request: Request) -> int:
    """The disk `name` becomes `size_bytes`, or as large as its file is; its size then."""
    return machine.devices.grow(_word(request, "name"), _size(request, "size_bytes"))


def device_link(machine: Machine, request: Request) -> None:
    """The cable of the network `name` is plugged in if `up`, else out."""
    up = request.get("up")
    if not isinstance(up, bool):
        raise ConfigError(f"device link takes 'up' as true or false, not {up!r}")
    machine.devices.set_link(_word(request, "name"), up)


def balloon(machine: Machine, request: Request) -> dict[str, int]:
    """The guest is asked for `target_bytes`, if that is given; what is wanted and what it has given."""
    target_bytes = _size(request, "target_bytes")
    if target_bytes is not None:
        machine.balloon(target_bytes)
    memory = machine.statistics().memory
    return {"target_bytes": memory.balloon_target_bytes, "balloon_bytes": memory.balloon_bytes}


def dump(machine: Machine, request: Request) -> int:
    """Writes an ELF core of the machine to `path`, of the directory `directory`; bytes of memory in it."""
    from ..debug.debugger import debugger_of

    with machine.life:
        debugger = debugger_of(machine)
    return debugger.write_core(Path(_word(request, "directory")) / _word(request, "path"))


def pause(machine: Machine, request: Request) -> dict[str, Any]:
    """The machine stands still, once its guest is quiet or `timeout_s` are over; what the guest said to that."""
    timeout_s = request.get("timeout_s")
    if not isinstance(timeout_s, int | float) or isinstance(timeout_s, bool):
        raise ConfigError(f"pause takes 'timeout_s' as a number of seconds, not {timeout_s!r}")
    return dict(machine.pausing.pause(timeout_s)._asdict())


def resume(machine: Machine, request: Request) -> int:
    """It goes on, for the reason `event` (one of REASONS); the time that it missed, in ns."""
    event = request.get("event", REASONS[0])
    if event not in REASONS:
        raise ConfigError(f"resume takes 'event' as one of {', '.join(REASONS)}, not {event!r}")
    return machine.pausing.resume(getattr(CONTINUITY_EVENT, event.upper()))


VERBS: dict[str, Callable[[Machine, Request], Any]] = {
    "statistics": statistics,
    "device list": device_list,
    "device remove": device_remove,
    "device grow": device_grow,
    "device link": device_link,
    "balloon": balloon,
}
SLOW: dict[str, Callable[[Machine, Request], Any]] = {
    "device add": device_add,
    "dump": dump,
    "pause": pause,
    "resume": resume,
}
