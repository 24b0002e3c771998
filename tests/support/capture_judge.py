"""What tshark, a program that is nobody's here, thinks of a capture of TCP and UDP."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path


def judge_capture(path: Path) -> None:
    """Every checksum in it, and that there are many."""
    fields = ("ip.checksum.status", "tcp.checksum.status", "udp.checksum.status", "_ws.malformed")
    command = ["tshark", "-r", str(path), "-T", "fields", "-E", "separator=,"]
    for protocol in ("ip", "tcp", "udp"):
        command += ["-o", f"{protocol}.check_checksum:TRUE"]
    for field in fields:
        command += ["-e", field]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    kinds = Counter(lines)
    assert not set(kinds) - {"1,1,,", "1,,1,", "1,,3,", ",,,"}, kinds  # good, or none: ARP, and passt's datagrams
    assert kinds["1,1,,"] > 100 and kinds["1,,1,"], kinds
