"""passt: a network for a guest without rights on the host, in a process of its own.

It translates the guest's frames to sockets of the user's.  We talk to it over a stream socket on which
the length of a frame goes before it.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from contextlib import suppress

from ..attachments.net import Net
from ..errors import LinkRefused

LOOPBACK = "127.0.0.1"
GUEST, GATEWAY, PREFIX_BITS = "10.0.2.15", "10.0.2.2", 24
MTU = 1500
PATIENCE_S = 10.0
END_S = 2.0
ARP = b"\x08\x06"
ASK = bytes.fromhex("0001080006040001")  # Ethernet, IPv4, request


class Passt:
    """A passt that runs for the network `net`; ``fd`` is our end.  Raises LinkRefused."""

    def __init__(self, net: Net) -> None:
        self._name = net.name
        ours, its = socket.socketpair()
        words = os.memfd_create("passt", os.MFD_CLOEXEC)
        try:
            self._process = subprocess.Popen(
                _command(net, its.fileno()),
                stdin=subprocess.DEVNULL, stdout=words, stderr=words, pass_fds=[its.fileno()],
            )  # fmt: skip
        except OSError as error:
            ours.close()
            os.close(words)
            raise LinkRefused(
                f"network {net.name!r}: cannot start passt ({error.strerror}); install the package passt, "
                "or use another link, for example tap:INTERFACE"
            ) from error
        finally:
            its.close()
        self._socket = ours
        try:
            self._await_answer(net.mac, words)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(words)

    def _await_answer(self, mac: bytes, words: int) -> None:
        """Asks for the gateway's address: who answers is at work, and knows the guest."""
        frame = b"\xff" * 6 + mac + ARP + ASK + mac + socket.inet_aton(GUEST) + bytes(6) + socket.inet_aton(GATEWAY)
        until = time.monotonic() + PATIENCE_S
        self._socket.settimeout(PATIENCE_S)
        try:
            self._socket.sendall(len(frame).to_bytes(4, "big") + frame)
            while self._receive(until)[12:14] != ARP:
                pass
        except OSError as error:
            self._process.kill()
            self._process.wait()
            said = os.pread(words, 10_000, 0).decode(errors="replace").strip().rpartition("\n")[2]
            raise LinkRefused(
                f"network {self._name!r}: passt does not serve it: {said or error}; {_hint(said)}"
            ) from error
        self._socket.setblocking(False)

    def _receive(self, until: float) -> bytes:
        return self._exactly(int.from_bytes(self._exactly(4, until), "big"), until)

    def _exactly(self, size_bytes: int, until: float) -> bytes:
        data = b""
        while len(data) < size_bytes:
            left_s = until - time.monotonic()
            if left_s <= 0:  # others' frames may come without an end
                raise TimeoutError("timed out")
            self._socket.settimeout(left_s)
            more = self._socket.recv(size_bytes - len(data))
            if not more:
                raise ConnectionError("it has ended")
            data += more
        return data

    @property
    def fd(self) -> int:
        """Our end of the stream."""
        return self._socket.fileno()

    def close(self) -> None:
        """Ends it.  More than once is fine."""
        self._socket.close()
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:  # stopped, or busy with something that it never ends
            self._process.kill()
            self._process.wait()


def _hint(said: str) -> str:
    if "nterface" in said:  # it takes the one with the default route as its model
        return "give this host a default route (ip route shows it), or use another link, for example tap:INTERFACE"
    return "change what it complains of, or use another link, for example tap:INTERFACE"


def _command(net: Net, fd: int) -> list[str]:
    def ports(protocol: str) -> list[str]:
        """An option for each: an address holds for all ports of its option. Without any passt would listen everywhere,
        and where a port is taken at some addresses alone it says nothing."""
        chosen = [text.partition(":")[2] for text in net.forward if text.startswith(protocol)]
        told = [port if "/" in port else f"{LOOPBACK}/{port}" for port in chosen] or ["none"]
        return [word for port in told for word in (f"--{protocol}-ports", port)]

    return [
        # One-off: it ends with our end of the socket, however we end.
        "passt", "--foreground", "--quiet", "--one-off", "--fd", str(fd), "--mtu", str(net.mtu or MTU),
        "--address", GUEST, "--netmask", str(PREFIX_BITS), "--gateway", GATEWAY,
        *ports("tcp"), *ports("udp"),
    ]  # fmt: skip
