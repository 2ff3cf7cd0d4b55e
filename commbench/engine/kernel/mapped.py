# SPDX-License-Identifier: Apache-2.0
"""An object file of compiled code laid into memory without a linker, where it asks for nothing that takes one.

To import llvmlite takes ten times as long as this. Code of our kernels is one section of instructions and one of
constants, whose addresses are all that is to be filled in, because numba compiles for any distance between them; what
is made otherwise (another processor, calls of other libraries, a system that lets nobody write code) is for llvmlite.
"""

import ctypes
import mmap
import struct
import sys
from typing import Any, NamedTuple

__all__ = ["lay_out", "map_code"]

# ELF-64, System V ABI, AMD64 supplement 1.0: headers, and the one kind of relocation that is known here.
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")
_MAGIC = b"\x7fELF\x02\x01"  # 64 bits, little-endian
_AMD64 = 62
_PROGBITS, _SYMTAB, _RELA = 1, 2, 4
_ALLOCATED = 0x2
_ABSOLUTE = 1  # R_X86_64_64
_ALIGNMENT = 64  # of a section, at least what ours ask for: a line of the cache


class _Section(NamedTuple):
    """One header of a section, as the ABI has it."""

    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry: int

    def of(self, held: bytes) -> bytes:
        """What is in it."""
        return held[self.offset : self.offset + self.size]


class CodeImage(NamedTuple):
    """Code in one piece: where its function begins, and (place, distance from the beginning) of addresses in it."""

    image: bytes
    start: int
    addresses: tuple[tuple[int, int], ...]


def lay_out(held: bytes, symbol: str) -> CodeImage | None:
    """An object file as one piece; None where it takes a linker.

    Args:
        held: the file. symbol: of the function in it.
    """
    if not held.startswith(_MAGIC):
        return None
    _, _, machine, _, _, _, table, _, _, _, _, size, count, _ = _HEADER.unpack_from(held)
    if machine != _AMD64 or size != _SECTION.size:
        return None
    sections = [_Section(*_SECTION.unpack_from(held, table + i * size)) for i in range(count)]
    image, places = bytearray(), dict[int, int]()
    for i, section in enumerate(sections):
        if section.flags & _ALLOCATED and section.size:
            if section.type != _PROGBITS or section.alignment > _ALIGNMENT:
                return None
            image += bytes(-len(image) % _ALIGNMENT)
            places[i] = len(image)
            image += section.of(held)
    (symbols,) = (section for section in sections if section.type == _SYMTAB)
    known = list(_SYMBOL.iter_unpack(symbols.of(held)))
    found = list[tuple[int, int]]()
    for section in sections:
        if section.type == _RELA and section.info in places:
            for offset, what, addend in _RELOCATION.iter_unpack(section.of(held)):
                _, _, _, home, value, _ = known[what >> 32]
                if what & 0xFFFFFFFF != _ABSOLUTE or home not in places:
                    return None
                found.append((places[section.info] + offset, places[home] + value + addend))
    names, sought = sections[symbols.link].of(held), symbol.encode() + b"\0"
    for name, _, _, home, value, _ in known:
        if home in places and names.startswith(sought, name):
            return CodeImage(bytes(image), places[home] + value, tuple(found))
    return None


def map_code(held: bytes, symbol: str) -> tuple[int, Any] | None:
    """Address of a function of an object file, and what must live as long as it; None where it takes a linker."""
    layout = lay_out(held, symbol) if sys.platform == "linux" else None
    if layout is None:
        return None
    try:
        rights = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
        memory = mmap.mmap(-1, len(layout.image), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=rights)
    except OSError:  # a system that lets nobody write code
        return None
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    memory[:] = layout.image
    for place, distance in layout.addresses:
        struct.pack_into("<Q", memory, place, base + distance)
    return base + layout.start, memory
