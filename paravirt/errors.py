"""Everything that can go wrong, as types: each with its own exit status, one line of text and what to do next.

Exit statuses of `paravirt` (kept stable; scripts rely on them):

==== ======================================================
0    the guest shut down with success
1    the guest shut down and reported a failure; what was judged did not pass
2    wrong usage or configuration
10–  the image is refused
30–  a disk or another attachment is refused
40–  this host cannot do it
50–  the guest failed while it ran
60   `paravirt demo`: what the guest reported is not what is in the files
61   `paravirt build`: the guest does not compile
62   an extension is refused
63–  a recording (63), or the program that serves a device by vhost-user (64), is refused
70   a bug of paravirt's own
124  the time given with --timeout was over
129  the terminal is gone (SIGHUP)
130  interrupted (SIGINT)
141  nobody reads the output any more (SIGPIPE)
143  terminated (SIGTERM)
==== ======================================================

The single numbers stand with the classes below.  Which error is raised when is for the modules that
raise them; printing is for the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from .services.system import CrashReport


def one_line(text: str) -> str:
    """`text` with everything unprintable escaped: names in an image or a report are the guest's choice."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class ParavirtError(Exception):
    """Base of all errors that a caller can expect.

    The text says what is wrong and what to do about it, in one line.  `rule` is the id of the rule of
    the ABI that was broken, if it was one.
    """

    exit_status: ClassVar[int] = 70

    def __init__(self, message: str, *, rule: str | None = None) -> None:
        self.rule = rule
        super().__init__(one_line(f"{message} ({rule})" if rule else message))


class ConfigError(ParavirtError):
    """A value of the configuration or the command line is wrong."""

    exit_status = 2


class DemoFailed(ParavirtError):
    """What the demo's guest reported is not what is in the files."""

    exit_status = 60


class BuildFailed(ParavirtError):
    """The guest does not compile; the compiler's words were shown."""

    exit_status = 61


class ExtensionError(ParavirtError):
    """An extension cannot be found, loaded, begun or asked, or its number is taken."""

    exit_status = 62


class RecordingError(ParavirtError):
    """A recording is no such file, is damaged, or cannot be replayed."""

    exit_status = 63


# ---- the image ----


class ImageError(ParavirtError):
    """Base of what is wrong with an image."""


class ImageUnreadable(ImageError):
    """The image does not exist, is not a file, or may not be read."""

    exit_status = 10


class NotElf(ImageError):
    """The image does not begin as an ELF file."""

    exit_status = 11


class WrongMachine(ImageError):
    """An ELF file, but not a 64-bit little-endian executable for x86-64."""

    exit_status = 12


class TruncatedImage(ImageError):
    """Something the image's headers name lies beyond the end of the file."""

    exit_status = 13


class BadSegments(ImageError):
    """Segments overlap, wrap around, or do not make sense."""

    exit_status = 14


class ImageTooLarge(ImageError):
    """A segment does not lie in the machine's memory."""

    exit_status = 15


class BadNote(ImageError):
    """A note is malformed, stands twice, or is mandatory and unknown (NOTE-1, NOTE-2)."""

    exit_status = 16


class AbiNotOffered(ImageError):
    """The image was built for a version of the ABI that this host does not speak."""

    exit_status = 17


class ServiceNotOffered(ImageError):
    """The image requires a service or feature that is not offered (NOTE-5)."""

    exit_status = 18


class BadEntry(ImageError):
    """The image has no entry point, or one outside of its executable segments."""

    exit_status = 19


class DeviceNotOffered(ImageError):
    """The manifest asks for a kind of device that this host does not have (NOTE-3)."""

    exit_status = 20


class CpuNotOffered(ImageError):
    """The image needs a newer CPU."""

    exit_status = 21


# ---- disks ----


class DeviceError(ParavirtError):
    """Base of what is wrong with what was attached."""


class DeviceMissing(DeviceError):
    """The manifest asks for a device that was not attached (NOTE-3)."""

    exit_status = 30


class DeviceNotInManifest(DeviceError):
    """A device was attached that the image does not know (NOTE-3)."""

    exit_status = 31


class DiskError(DeviceError):
    """Base of what is wrong with a disk."""


class DiskNotFound(DiskError):
    """The disk's file does not exist."""

    exit_status = 32


class DiskUnreadable(DiskError):
    """The disk's file may not be read, or is neither a regular file nor a block device."""

    exit_status = 33


class DiskNotWritable(DiskError):
    """The disk's file may not be written and was not attached read-only."""

    exit_status = 34


class DiskEmpty(DiskError):
    """The disk's file has no bytes."""

    exit_status = 35


class DiskOddSize(DiskError):
    """The size of the disk's file is not a multiple of 512 bytes."""

    exit_status = 36


class DiskBusy(DiskError):
    """Another machine has the disk open for writing."""

    exit_status = 37


class LinkRefused(DeviceError):
    """What a network is to be plugged into is not there, is not the user's, or cannot do it."""

    exit_status = 38


class SocketError(DeviceError):
    """The socket of a device cannot be made: its path is taken, or may not be written."""

    exit_status = 39


# ---- the host ----


class HostError(ParavirtError):
    """Base of what this host cannot do."""


class KvmMissing(HostError):
    """There is no /dev/kvm, or it is not KVM."""

    exit_status = 40


class KvmForbidden(HostError):
    """This user may not open /dev/kvm."""

    exit_status = 41


class HostMemory(HostError):
    """More guest memory was asked for than this host has."""

    exit_status = 42


class KvmTooOld(HostError):
    """KVM is there, but lacks a capability; the text names it."""

    exit_status = 43


class HostLimit(HostError):
    """KVM or the host allows fewer vCPUs, other CPUs or less of another bounded thing than asked for."""

    exit_status = 44


class HostCallFailed(HostError):
    """The host's kernel refused an operation that should work; the text has operation and errno."""

    exit_status = 45


class OutputError(HostError):
    """A file that was to be written (console, trace, standard output) cannot be."""

    exit_status = 46


class NativeMismatch(HostError):
    """The built C core is missing, or belongs to another version of the ABI."""

    exit_status = 47


class SoftwareMissing(HostError):
    """The software vCPU was asked for and its engine is not installed."""

    exit_status = 48


class EngineLost(HostError):
    """The process of the software vCPU's engine ended before its machine."""

    exit_status = 49


# ---- the running guest ----


class GuestError(ParavirtError):
    """Base of how a guest can fail while it runs."""


class GuestFailed(GuestError):
    """The guest shut down in order, and said that it failed: reason FAILURE, or a status that is not zero."""

    exit_status = 1


class GuestCrashed(GuestError):
    """The guest reported a crash of its own (system.crash); `report` is a services.system.CrashReport."""

    exit_status = 50

    def __init__(self, report: CrashReport, place: Callable[[int], str] = hex, backtrace: tuple[str, ...] = ()) -> None:
        self.report = report
        self.backtrace = backtrace
        """Where it was and who called that, the innermost first; empty if nobody knows."""
        super().__init__(f"the guest crashed: {report.describe(place)}")


class TripleFault(GuestError):
    """A vCPU faulted with no handler that could take it."""

    exit_status = 51


class UnknownExit(GuestError):
    """KVM ended a run for a reason that this host does not know; the text has its number."""

    exit_status = 52


class KvmInternalError(GuestError):
    """KVM could not go on with the guest (KVM_EXIT_INTERNAL_ERROR): an instruction it cannot emulate, mostly."""

    exit_status = 53


class EntryFailed(GuestError):
    """The CPU refused the guest's state (KVM_EXIT_FAIL_ENTRY)."""

    exit_status = 54


class SoftwareUnsupported(GuestError):
    """The guest does what the software vCPU cannot; the text says what."""

    exit_status = 57


class WatchdogExpired(GuestError):
    """The guest armed its watchdog and did not come back in time."""

    exit_status = 55


class BootRefused(GuestError):
    """The guest found that it cannot run here (system.shutdown with BOOT_REFUSED)."""

    exit_status = 56


class GuestReset(GuestError):
    """The guest asked for a reset once more than the machine allows."""

    exit_status = 58


class DiskLost(GuestError):
    """The guest touched a page of a mapped disk that cannot be had: the file was cut, or its disk failed (PMEM-6)."""

    exit_status = 59


class GuestTimeout(GuestError):
    """The time given to the guest was over; it was stopped."""

    exit_status = 124


INTERRUPTED = 130


def all_errors(base: type[ParavirtError] = ParavirtError) -> Iterator[type[ParavirtError]]:
    """Every class of error that has an exit status of its own."""
    for child in base.__subclasses__():
        if "exit_status" in vars(child):
            yield child
        yield from all_errors(child)
