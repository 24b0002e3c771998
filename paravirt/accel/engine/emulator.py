"""The part of libunicorn's C interface that is used here, by ctypes.

Its own Python package loads in a multiple of the time in which this whole process starts; only the
library out of it is used.  Numbers are those of the interface's version 2.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable
from ctypes import c_bool, c_char_p, c_int, c_size_t, c_uint16, c_uint32, c_uint64, c_void_p
from pathlib import Path
from typing import Any

_ARCH_X86, _MODE_64, CPU_HASWELL = 4, 8, 19
PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
MEM_READ, MEM_WRITE, MEM_FETCH = 16, 17, 18
ERROR_INVALID_INSTRUCTION = 10

_HOOK_INTERRUPT, _HOOK_INSTRUCTION, _HOOK_CODE, _HOOK_BLOCK, _HOOK_TLB_FILL = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 17
_CONTROL_WRITE_1 = 1 << 26 | 1 << 30  # one argument, to be written
_CONTROL_WRITE_0 = 1 << 30
_CONTROL_USE_EXITS, _CONTROL_CPU_MODEL, _CONTROL_FLUSH, _CONTROL_TLB = 4, 7, 10, 12
_TLB_VIRTUAL = 1

REGISTERS = {
    "RAX": 35,
    "RBX": 37,
    "RCX": 38,
    "RDX": 40,
    "RSI": 43,
    "RDI": 39,
    "RBP": 36,
    "RSP": 44,
    "R8": 106,
    "R9": 107,
    "R10": 108,
    "R11": 109,
    "R12": 110,
    "R13": 111,
    "R14": 112,
    "R15": 113,
    "RIP": 41,
    "EFLAGS": 25,
    "CS": 11,
    "DS": 17,
    "ES": 28,
    "FS": 32,
    "GS": 33,
    "SS": 49,
    "CR0": 50,
    "CR2": 52,
    "CR3": 53,
    "CR4": 54,
    "GDTR": 243,
    "IDTR": 242,
    "TR": 245,
    "MSR": 248,
    "MXCSR": 249,
    "FPCW": 246,
    "FPSW": 31,
    "FPTAG": 247,
    "DX": 18,
    "EAX": 19,
    "FS_BASE": 250,
    "GS_BASE": 251,
    "CR8": 58,
    **{f"ST{n}": 114 + n for n in range(8)},
    **{f"XMM{n}": 122 + n for n in range(16)},
}
_WIDE = frozenset(f"XMM{n}" for n in range(16))
_TABLES = frozenset(("GDTR", "IDTR", "TR"))


class _Table(ctypes.Structure):
    _fields_ = (("selector", c_uint16), ("base", c_uint64), ("limit", c_uint32), ("flags", c_uint32))


class _Msr(ctypes.Structure):
    _fields_ = (("number", c_uint32), ("value", c_uint64))


class TlbEntry(ctypes.Structure):
    """What a translation is answered with."""

    _fields_ = (("page", c_uint64), ("rights", c_uint32))


_ON_INTERRUPT = ctypes.CFUNCTYPE(None, c_void_p, c_uint32, c_void_p)
_ON_CODE = ctypes.CFUNCTYPE(None, c_void_p, c_uint64, c_uint32, c_void_p)
_ON_CPUID = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p)
_ON_IN = ctypes.CFUNCTYPE(c_uint32, c_void_p, c_uint32, c_int, c_void_p)
_ON_OUT = ctypes.CFUNCTYPE(None, c_void_p, c_uint32, c_int, c_uint32, c_void_p)
_ON_FILL = ctypes.CFUNCTYPE(c_bool, c_void_p, c_uint64, c_int, ctypes.POINTER(TlbEntry), c_void_p)
_ON_LOAD = ctypes.CFUNCTYPE(c_uint64, c_void_p, c_uint64, c_uint32, c_void_p)
_ON_STORE = ctypes.CFUNCTYPE(None, c_void_p, c_uint64, c_uint32, c_uint64, c_void_p)
_INSTRUCTIONS = {"CPUID": (113, _ON_CPUID), "IN": (218, _ON_IN), "OUT": (500, _ON_OUT)}


class EmulatorError(Exception):
    """The library refused; `number` is its own."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number


def _load() -> ctypes.CDLL:
    package = importlib.util.find_spec("unicorn")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("the package unicorn is not installed")
    place = Path(package.submodule_search_locations[0]) / "lib"
    found = [*sorted(place.glob("libunicorn.so.2")), *sorted(place.glob("libunicorn.2.dylib"))]
    if not found:
        raise SystemExit(f"no libunicorn of version 2 in {place}; install unicorn 2")
    library = ctypes.CDLL(str(found[0]))
    library.uc_strerror.restype = c_char_p
    library.uc_context_size.restype = c_size_t
    for name, kinds in _ARGUMENTS.items():
        getattr(library, name).argtypes = kinds
    return library


_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "uc_open": (c_uint32, c_uint32, c_void_p),
    "uc_ctl": (c_void_p, c_uint32, c_uint64),
    "uc_mem_map": (c_void_p, c_uint64, c_uint64, c_uint32),
    "uc_mem_map_ptr": (c_void_p, c_uint64, c_uint64, c_uint32, c_void_p),
    "uc_mem_write": (c_void_p, c_uint64, c_char_p, c_uint64),
    "uc_mmio_map": (c_void_p, c_uint64, c_uint64, _ON_LOAD, c_void_p, _ON_STORE, c_void_p),
    "uc_reg_read": (c_void_p, c_int, c_void_p),
    "uc_reg_write": (c_void_p, c_int, c_void_p),
    "uc_emu_start": (c_void_p, c_uint64, c_uint64, c_uint64, c_size_t),
    "uc_emu_stop": (c_void_p,),
    "uc_context_alloc": (c_void_p, c_void_p),
    "uc_context_save": (c_void_p, c_void_p),
    "uc_context_restore": (c_void_p, c_void_p),
    "uc_context_free": (c_void_p,),
    "uc_context_size": (c_void_p,),
}
_library = _load()
# What is called before each block of code: a function that only looks at its argument, or the stop.
_NOTHING, _STOP = (ctypes.cast(f, c_void_p).value or 0 for f in (_library.uc_strerror, _library.uc_emu_stop))
_Words = c_uint64 * 8


def _check(number: int) -> None:
    if number:
        raise EmulatorError(number, _library.uc_strerror(number).decode())


class Context:
    """All registers of an emulator, which another one can be given; ``bytes`` is the library's record of them."""

    def __init__(self, engine: c_void_p) -> None:
        self.handle = c_void_p()
        _check(_library.uc_context_alloc(engine, ctypes.byref(self.handle)))
        self._size = int(_library.uc_context_size(engine))

    @property
    def bytes(self) -> memoryview:
        """The record itself."""
        assert self.handle.value is not None
        record: Any = (ctypes.c_ubyte * self._size).from_address(self.handle.value)
        record.context = self  # which is freed with the last view of it
        return memoryview(record).cast("B")

    def __del__(self) -> None:
        _library.uc_context_free(self.handle)


class Emulator:
    """An x86-64 CPU; it and its memory last as long as the process.

    An exception of a hook's stops the CPU and comes out of :meth:`run`.
    """

    def __init__(self) -> None:
        self._engine = c_void_p()
        self._hooks: list[Any] = []  # the library does not keep callables alive
        self._error: BaseException | None = None
        self._on_code: Any = None
        _check(_library.uc_open(_ARCH_X86, _MODE_64, ctypes.byref(self._engine)))
        self._control(_CONTROL_CPU_MODEL, CPU_HASWELL)
        self._control(_CONTROL_TLB, _TLB_VIRTUAL)
        self._control(_CONTROL_USE_EXITS, 1)  # and none given: it never ends at an address by itself
        self._number = c_uint64()
        self._at_number = ctypes.byref(self._number)
        self._ids = {name: c_int(number) for name, number in REGISTERS.items()}
        self._hook_words = _Words.from_address(self._hook(_HOOK_BLOCK, c_void_p(_NOTHING)))
        if _NOTHING not in self._hook_words:
            raise SystemExit("this version of libunicorn keeps hooks in another way; install unicorn 2.1")
        self._callback = list(self._hook_words).index(_NOTHING)
        self._hook(_HOOK_BLOCK, c_void_p(_NOTHING))  # of one alone the callback is translated with the code

    def _control(self, what: int, value: int) -> None:
        _check(_library.uc_ctl(self._engine, what | _CONTROL_WRITE_1, value))

    # ---- memory ----

    def map(self, gpa: int, size_bytes: int, address: int | None = None, *, read_only: bool = False) -> None:
        """RAM at `gpa`: what is at `address` in this process, or zeros."""
        rights = PROT_READ if read_only else PROT_READ | PROT_WRITE | PROT_EXEC
        if address is None:
            _check(_library.uc_mem_map(self._engine, gpa, size_bytes, rights))
        else:
            _check(_library.uc_mem_map_ptr(self._engine, gpa, size_bytes, rights, address))

    def write(self, gpa: int, data: bytes) -> None:
        """Copies to RAM."""
        _check(_library.uc_mem_write(self._engine, gpa, data, len(data)))

    def map_device(
        self, gpa: int, size_bytes: int, load: Callable[[int, int], int], store: Callable[[int, int, int], None]
    ) -> None:
        """A range in which loads call `load` (offset, size) and stores `store` (offset, size, value)."""
        loads = _ON_LOAD(self._guarded(lambda _engine, offset, size, _data: load(offset, size), 0))
        stores = _ON_STORE(self._guarded(lambda _engine, offset, size, value, _data: store(offset, size, value)))
        self._hooks += [loads, stores]
        _check(_library.uc_mmio_map(self._engine, gpa, size_bytes, loads, None, stores, None))

    # ---- hooks ----

    def _guarded(self, function: Callable[..., Any], otherwise: Any = None) -> Callable[..., Any]:
        def guarded(*args: Any) -> Any:
            try:
                return function(*args)
            except BaseException as error:  # must not pass through the library
                self._error = self._error or error
                self.stop()
                return otherwise

        return guarded

    def _hook(self, kind: int, callback: Any, *more: Any, at: int | None = None) -> int:
        """Everywhere, or before the instruction `at` an address; the address of the library's record."""
        self._hooks.append(callback)
        first, last = (1, 0) if at is None else (at, at)
        record = c_size_t()
        bounds = (None, c_uint64(first), c_uint64(last))
        _check(_library.uc_hook_add(self._engine, ctypes.byref(record), c_int(kind), callback, *bounds, *more))
        return record.value

    def on_translation(self, function: Callable[[int, int, TlbEntry], bool]) -> None:
        """`function` (address, MEM_…, entry to fill in) translates; false: it cannot be, and the CPU stops."""
        guarded = self._guarded(lambda _engine, address, kind, entry, _data: function(address, kind, entry[0]), False)
        self._hook(_HOOK_TLB_FILL, _ON_FILL(guarded))

    def on_interrupt(self, function: Callable[[int], None]) -> None:
        """`function` (vector) is told of exceptions and of INT."""
        self._hook(_HOOK_INTERRUPT, _ON_INTERRUPT(self._guarded(lambda _engine, vector, _data: function(vector))))

    def on_instruction(self, name: str, function: Callable[..., Any]) -> None:
        """`function` stands in for CPUID (…), IN or OUT (port, size, …)."""
        number, kind = _INSTRUCTIONS[name]
        self._hook(_HOOK_INSTRUCTION, kind(self._guarded(lambda _engine, *args: function(*args), 0)), c_int(number))

    def on_code(self, function: Callable[[int], None]) -> None:
        """`function` (address) is called before an instruction at an address given to :meth:`watch`."""
        self._on_code = _ON_CODE(self._guarded(lambda _engine, address, _size, _data: function(address)))

    def watch(self, address: int) -> None:
        """Has the hook for code called there; before that code is translated."""
        self._hook(_HOOK_CODE, self._on_code, at=address)

    # ---- registers ----

    def get(self, name: str) -> Any:
        """A register; of GDTR, IDTR and TR (base, limit)."""
        if name in _TABLES:
            table = _Table()
            _check(_library.uc_reg_read(self._engine, REGISTERS[name], ctypes.byref(table)))
            return table.base, table.limit
        self._number.value = 0
        _library.uc_reg_read(self._engine, self._ids[name], self._at_number)
        return self._number.value

    def set(self, name: str, value: int) -> None:
        """A general, control or status register, or 0 for a vector register."""
        if name in _WIDE:
            wide = (c_uint64 * 2)(value, 0)
            _check(_library.uc_reg_write(self._engine, REGISTERS[name], ctypes.byref(wide)))
            return
        self._number.value = value
        _check(_library.uc_reg_write(self._engine, self._ids[name], self._at_number))

    def get_wide(self, name: str) -> int:
        """A register of the vector or the floating-point unit."""
        wide = (c_uint64 * 2)()
        _check(_library.uc_reg_read(self._engine, REGISTERS[name], ctypes.byref(wide)))
        return int(wide[0] | wide[1] << 64)

    def set_wide(self, name: str, value: int) -> None:
        """The same, written."""
        wide = (c_uint64 * 2)(value & (1 << 64) - 1, value >> 64)
        _check(_library.uc_reg_write(self._engine, REGISTERS[name], ctypes.byref(wide)))

    def flush(self) -> None:
        """Forgets all translated code: it is looked at again."""
        _check(_library.uc_ctl(self._engine, _CONTROL_FLUSH | _CONTROL_WRITE_0, 0))

    def set_table(self, name: str, base: int, limit: int, selector: int = 0, flags: int = 0) -> None:
        """GDTR, IDTR or TR."""
        table = _Table(selector, base, limit, flags)
        _check(_library.uc_reg_write(self._engine, REGISTERS[name], ctypes.byref(table)))

    def get_msr(self, number: int) -> int:
        """A model-specific register."""
        msr = _Msr(number, 0)
        _check(_library.uc_reg_read(self._engine, REGISTERS["MSR"], ctypes.byref(msr)))
        return int(msr.value)

    def set_msr(self, number: int, value: int) -> None:
        """The same, written."""
        msr = _Msr(number, value)
        _check(_library.uc_reg_write(self._engine, REGISTERS["MSR"], ctypes.byref(msr)))

    def save(self) -> Context:
        """A copy of all registers."""
        context = Context(self._engine)
        _check(_library.uc_context_save(self._engine, context.handle))
        return context

    def restore(self, context: Context) -> None:
        """Makes a copy's registers its own."""
        _check(_library.uc_context_restore(self._engine, context.handle))

    # ---- running ----

    def run(self, rip: int) -> None:
        """Runs from `rip` until stopped.  Raises EmulatorError, and what a hook raised."""
        result = _library.uc_emu_start(self._engine, rip, 0, 0, 0)
        self._hook_words[self._callback] = _NOTHING
        error, self._error = self._error, None
        if error:
            raise error
        _check(result)

    def stop(self) -> None:
        """Ends a run, at the instruction that a hook was called for; only from there (see :meth:`stop_soon`)."""
        _library.uc_emu_stop(self._engine)

    def stop_soon(self) -> None:
        """Ends a run before the next block of code, or one that is to begin before its first; any thread.

        The library's own stop would leave a block in the middle, which is then done once more from its
        beginning, unless it is called within a hook.  So there is one before each block, by whose record the
        library calls another of its functions.
        """
        self._hook_words[self._callback] = _STOP
