# SPDX-License-Identifier: Apache-2.0
"""Code laid into memory without a linker does what llvmlite makes of it; what takes a linker is left to that."""

import mmap
import platform
import sys
from typing import Any

import numpy as np
import pytest

from commbench.engine.kernel import mapped, native

pytestmark = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="llvmlite links the code of other machines"
)


def mixed(x: Any, y: Any) -> float:
    """Constants of several kinds, loops and a division."""
    total = 0.1
    for i in range(len(x)):
        total += x[i] * 2.5e-3 - y[i] / 7.25 if x[i] > 1e-9 else 1e300 * 1e-298
    return total


ARGUMENTS = (np.linspace(-1, 3, 50), np.arange(50))


@pytest.fixture(scope="module")
def code() -> native.MachineCode:
    return native.compile_code(mixed, ARGUMENTS)


def test_mapped_and_linked_code_agree(code: native.MachineCode, monkeypatch: pytest.MonkeyPatch) -> None:
    found = mapped.lay_out(code.machine, code.symbol)
    assert found is not None
    assert found.addresses  # or it would show nothing about constants
    here = native.link(code, ARGUMENTS)(*ARGUMENTS)
    monkeypatch.setattr(native, "map_code", lambda *_: None)
    assert here == native.link(code, ARGUMENTS)(*ARGUMENTS) == mixed(*ARGUMENTS)


def test_what_takes_a_linker_is_left_to_llvmlite(code: native.MachineCode) -> None:
    held = code.machine
    header = mapped._HEADER.unpack_from(held)
    assert mapped.lay_out(b"#!" + held, code.symbol) is None
    assert mapped.lay_out(held, code.symbol + "2") is None
    assert mapped.lay_out(held[:18] + (183).to_bytes(2, "little") + held[20:], code.symbol) is None  # AArch64
    sections = [
        mapped._Section(*mapped._SECTION.unpack_from(held, header[6] + i * mapped._SECTION.size))
        for i in range(header[12])
    ]
    place = next(each.offset for each in sections if each.type == mapped._RELA)
    other = bytearray(held)
    other[place + 8] = 2  # R_X86_64_PC32
    assert mapped.lay_out(bytes(other), code.symbol) is None


def test_a_system_that_lets_nobody_write_code(code: native.MachineCode, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(mmap, "mmap", refused)
    assert mapped.map_code(code.machine, code.symbol) is None
    assert native.link(code, ARGUMENTS)(*ARGUMENTS) == mixed(*ARGUMENTS)
