"""``paravirt device block|net|vsock|entropy``: a device of ours for another hypervisor, over vhost-user."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from ..attachments.block_served import SERVED
from ..config import parse_poll
from ..errors import ConfigError, NativeMismatch
from .common import add_command, given, print_json, show

if TYPE_CHECKING:
    from ..vhost_user.back_end import BackEnd
    from ..vhost_user.given_socket import GivenSocket

NET_LINKS = "user, tap:INTERFACE, fd:NUMBER or loop"
NET_OPTIONS = {"pairs": "N", "pps": "N", "bps": "SIZE", "tcp": "[ADDRESS/]HOST:GUEST", "udp": "…"}
EPILOG = """\
The device is served until SIGTERM or SIGINT, to one front end after the other: a hypervisor that ends, or starts
again, finds it where it was.{more}

examples:
{examples}
"""


def add_parsers(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the kinds beside the verbs of ``paravirt device``."""
    for name, kind in KINDS.items():
        examples = "\n".join(f"  {line}" for line in kind.examples)
        parser = add_command(verbs, name, kind.summary, EPILOG.format(more=kind.more, examples=examples))
        add = parser.add_argument
        where = parser.add_mutually_exclusive_group(required=True)
        add_at = where.add_argument
        add_at("--socket", "--socket-path", type=Path, metavar="PATH", help="where it listens for its front end")
        add_at("--fd", metavar="N", help="an inherited socket instead, which listens, or is a front end's connection")
        add("--print-capabilities", action=_Capabilities, const=kind.type, nargs=0,
            help="print what it is, as management software asks for it (JSON), and leave")  # fmt: skip
        if kind.option:
            add(f"--{kind.option}", required=kind.needed, default=kind.default, metavar=kind.metavar, help=kind.help)
        add("--name", default=kind.word, metavar="NAME", help=f"what it is called ({kind.word})")
        if kind.option:  # the others have no thread that could look
            add("--poll", default="auto", metavar="auto|off|NS",
                help="how long its threads look for work before they sleep: at most 50 µs as experience says it pays "
                "(auto), not at all, or at most NS nanoseconds")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Serves until a signal ends it.  Raises ParavirtError."""
    try:
        with KINDS[args.verb].make(args) as back_end:
            show(f"{back_end.title} is served")
            back_end.serve()
    except ImportError as error:
        raise NativeMismatch(f"the C core does not load: {error}; see paravirt doctor") from error
    return 0


def _block(args: argparse.Namespace) -> BackEnd:
    from ..attachments.block import Disk, parse_disk
    from ..vhost_user.kinds import serve_block

    disk = parse_disk(f"{args.name}={args.disk}")
    if not isinstance(disk, Disk):
        raise ConfigError(f"{args.disk!r} is served by another program already; give a file")
    name, equals, path = args.disk.partition("=")
    if equals and "/" not in name and not os.path.lexists(disk.path):
        raise ConfigError(f"--disk: there is no file {str(disk.path)!r}; a NAME= is not written here: give {path}")
    return serve_block(disk, _at(args), parse_poll(args.poll))


def _net(args: argparse.Namespace) -> BackEnd:
    from ..attachments.net import parse_net
    from ..vhost_user.kinds import serve_net

    given("--net", _check_net, args.net)
    return serve_net(parse_net(f"{args.name}={args.net}"), _at(args), parse_poll(args.poll))


def _check_net(text: str) -> None:
    """Raises ConfigError for what ``paravirt run --net`` takes, and is not for who serves it to others."""
    link, *options = text.split(",")
    if link.startswith(SERVED):
        raise ConfigError(f"{link!r} is served by another program already; give {NET_LINKS}")
    if not re.fullmatch("user|loop|(tap|fd):.*", link):
        raise ConfigError(f"{link!r} is no link; give {NET_LINKS}, without a NAME= before it, which is --name here")
    for option in options:
        key = option.partition("=")[0]
        if key in ("mac", "mtu"):
            raise ConfigError(f"{option!r}: the {key} is the front end's; give it to the hypervisor that connects")
        if key not in NET_OPTIONS:
            known = ", ".join(f"{key}={value}" for key, value in NET_OPTIONS.items())
            raise ConfigError(f"{option!r} is not an option of a network that is served; there are {known}")


def _vsock(args: argparse.Namespace) -> BackEnd:
    from ..attachments.vsock import parse_vsock
    from ..vhost_user.kinds import serve_vsock

    return serve_vsock(parse_vsock(f"{args.name}={args.vsock}"), _at(args), parse_poll(args.poll))


def _entropy(args: argparse.Namespace) -> AbstractContextManager[BackEnd]:
    from ..vhost_user.kinds import serve_entropy

    return serve_entropy(args.name, _at(args))


def _at(args: argparse.Namespace) -> Path | GivenSocket:
    from ..vhost_user.given_socket import parse_fd

    where: Path | None = args.socket
    return where if where is not None else given("--fd", parse_fd, args.fd)


class _Capabilities(argparse.Action):
    """Answers whatever else is given, as vhost-user's conventions for back ends want it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        features: dict[str, object] = {"features": []} if self.const == "block" else {}
        print_json({"type": self.const, **features})
        parser.exit()


class Kind(NamedTuple):
    """A device that can be served: its options, and how it is made of them."""

    summary: str
    type: str
    """As vhost-user's conventions have it."""
    word: str
    make: Callable[[argparse.Namespace], AbstractContextManager[BackEnd]]
    examples: tuple[str, ...]
    option: str = ""
    metavar: str = ""
    help: str = ""
    needed: bool = False
    default: str | None = None
    more: str = ""


SHARED = "-object memory-backend-memfd,id=ram,size=1G,share=on -machine q35,memory-backend=ram -m 1G"
KINDS = {
    "block": Kind(
        "serve a disk to another hypervisor (vhost-user)",
        "block",
        "disk",
        _block,
        (
            "paravirt device block --socket disk.sock --disk disk.img",
            "paravirt device block --socket disk.sock --disk disk.img,direct,queues=4",
            f"qemu-system-x86_64 {SHARED} \\",
            "  -chardev socket,id=disk,path=disk.sock,reconnect=1 -device vhost-user-blk-pci,chardev=disk",
        ),
        "disk",
        "FILE[,ro]",
        "the raw file; further options as of paravirt run: ,direct ,writethrough ,iops=N ,bps=SIZE ,queues=N",
        needed=True,
        more=" What was in flight when it was killed is done by the next one at that socket.",
    ),
    "net": Kind(
        "serve a network to another hypervisor (vhost-user)",
        "net",
        "net",
        _net,
        (
            "paravirt device net --socket lan.sock --net user,tcp=8080:80",
            "paravirt device net --socket lan.sock --net tap:tap0,pairs=2",
            f"qemu-system-x86_64 {SHARED} \\",
            "  -chardev socket,id=lan,path=lan.sock,reconnect=1 -netdev vhost-user,id=lan,chardev=lan \\",
            "  -device virtio-net-pci,netdev=lan",
        ),
        "net",
        "LINK",
        "what it is plugged into: user, tap:INTERFACE, fd:NUMBER or loop (user); options as of paravirt run: ,pairs=N "
        ",pps=N ,bps=SIZE ,tcp=[ADDRESS/]HOST:GUEST ,udp=…; the address is the front end's",
        default="user",
    ),
    "vsock": Kind(
        "serve sockets between host and guest to another hypervisor (vhost-user)",
        "vsock",
        "vsock",
        _vsock,
        (
            "paravirt device vsock --socket vsock.sock --vsock guest.sock,cid=3",
            f"qemu-system-x86_64 {SHARED} \\",
            "  -chardev socket,id=vsock,path=vsock.sock -device vhost-user-vsock-pci,chardev=vsock",
        ),
        "vsock",
        "PATH[,cid=N]",
        "the UNIX socket for programs of this host; port P of the host is PATH_P; the guest's address is N (3)",
        needed=True,
    ),
    "entropy": Kind(
        "serve random bytes to another hypervisor (vhost-user)",
        "rng",
        "entropy",
        _entropy,
        (
            "paravirt device entropy --socket random.sock",
            f"qemu-system-x86_64 {SHARED} \\",
            "  -chardev socket,id=random,path=random.sock -device vhost-user-rng-pci,chardev=random",
        ),
    ),
}
