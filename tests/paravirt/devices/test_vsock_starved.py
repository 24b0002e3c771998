"""A vsock whose host's kernel has no memory for what it sends: it comes later, and nothing is lost.

`sendmsg` is replaced in a process of its own, where it fails so many times for want of memory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tree import ROOT

SENDMSG = """
#define _GNU_SOURCE
#include <errno.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int left = FAILURES;

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	if (flags == (MSG_NOSIGNAL | MSG_DONTWAIT) && __atomic_fetch_sub(&left, 1, __ATOMIC_SEQ_CST) > 0) {
		errno = ERROR;
		return -1;
	}
	return syscall(SYS_sendmsg, fd, message, flags);
}
"""
USER = """
import sys
from pathlib import Path
from hypercall_abi.devices.virtio_vsock import VSOCK_SHUTDOWN
from tests.support.vsock_driver import OP, Packet, vsock_guest
with vsock_guest(Path(sys.argv[1]) / "v") as driver:
    peer, host_port = driver.host_connects(5)
    sent = [bytes([n]) * 1000 for n in range(4)]
    for data in sent:
        driver.send(Packet(OP.DATA, 5, host_port, data))
    driver.send(Packet(OP.SHUTDOWN, 5, host_port, flags=VSOCK_SHUTDOWN.SEND))
    peer.settimeout(20)
    got = b""
    while piece := peer.recv(4096):
        got += piece
    assert got == b"".join(sent), len(got)
    assert driver.statistics()["open_connections"] == 1
    peer.close()
"""


@pytest.mark.skipif(not shutil.which("cc"), reason="no compiler")
@pytest.mark.parametrize("error", ["ENOBUFS", "ENOMEM"])
def test_what_the_kernel_had_no_memory_for_comes_later(tmp_path: Path, error: str) -> None:
    (tmp_path / "sendmsg.c").write_text(SENDMSG)
    library = tmp_path / "sendmsg.so"
    macros = ["-DFAILURES=2", f"-DERROR={error}"]
    subprocess.run(["cc", "-shared", "-fPIC", *macros, tmp_path / "sendmsg.c", "-o", library], check=True)
    command = [sys.executable, "-c", USER, str(tmp_path)]
    environment = os.environ | {"LD_PRELOAD": str(library)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
