"""A vCPU that goes to sleep has the others' stores made visible before it looks (EVT-11), where they have no fences.

The barrier is replaced in a process of its own: it is then that a store of the guest's arrives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tree import ROOT

SYSCALL = """
#define _GNU_SOURCE
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

uint32_t *late;

long syscall(long number, ...)
{
	register long r10 __asm__("r10"), r8 __asm__("r8");
	long result, a[5];
	va_list list;

	va_start(list, number);
	for (int i = 0; i < 5; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if (number == SYS_membarrier && late)
		__atomic_store_n(late, 1, __ATOMIC_SEQ_CST);
	r10 = a[3], r8 = a[4];
	__asm__ volatile("syscall"
		: "=a"(result)
		: "a"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8)
		: "rcx", "r11", "memory");
	return result < 0 ? -1 : result;
}
"""
USER = """
import ctypes, sys
from paravirt._native import ffi, lib
machine = ffi.new("struct pv_machine *")
lib.pv_machine_init(machine)
machine.memory.unfenced = 1
vcpu, page = ffi.new("struct pv_vcpu *"), ffi.new("struct pv_vcpu_page *")
vcpu.machine, vcpu.page = machine, page
at = int(ffi.cast("uintptr_t", ffi.addressof(page, "upcall_pending")))
ctypes.c_void_p.in_dll(ctypes.CDLL(sys.argv[1]), "late").value = at
lib.pv_vcpu_block(vcpu, lib.PV_DEADLINE_NEVER)
assert page.upcall_pending == 1
"""


@pytest.mark.skipif(not shutil.which("cc"), reason="no compiler")
def test_what_was_stored_before_the_barrier_ends_the_sleep(tmp_path: Path) -> None:
    (tmp_path / "syscall.c").write_text(SYSCALL)
    preload = tmp_path / "syscall.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", preload, tmp_path / "syscall.c"], check=True, timeout=60)
    environment = os.environ | {"LD_PRELOAD": str(preload), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", USER, preload], env=environment, check=True, timeout=30)
