# SPDX-License-Identifier: Apache-2.0
"""Machine code: numba makes it; kernel.mapped lays it into a process, or llvmlite links it, which numba is built on;
ctypes calls it.

To import numba takes more time than most simulations, and code that lies on disk needs none of it.
"""

import ctypes
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from commbench.engine.kernel.mapped import map_code
from commbench.errors import RunError

__all__ = ["MachineCode", "compile_code", "kind_of", "link"]

_RETURNS: dict[str, Any] = {
    "int64": ctypes.c_int64,
    "float64": ctypes.c_double,
    "bool": ctypes.c_bool,
    "none": ctypes.c_void_p,
}
_NO_VALUE = -2  # numba.core.callconv.RETCODE_NONE
_C_ORDER, _FORTRAN_ORDER, _OTHERS = 0x1, 0x2, 0x500  # of numpy's flags; the others: aligned, writeable


@dataclass(frozen=True, slots=True)
class MachineCode:
    """A compiled function.

    Attributes:
        symbol: its name in ``machine``. returns: numba's name of what it returns. needs: functions that it calls of
            others.
        machine: an object file.
    """

    symbol: str
    returns: str
    needs: tuple[str, ...]
    machine: bytes

    def to_bytes(self) -> bytes:
        """As it lies on disk."""
        said = {"symbol": self.symbol, "returns": self.returns, "needs": self.needs}
        return json.dumps(said).encode() + b"\n" + self.machine

    @classmethod
    def from_bytes(cls, held: bytes) -> "MachineCode":
        """What :meth:`to_bytes` made.

        Raises:
            ValueError, KeyError, TypeError: it is something else.
        """
        said, _, machine = held.partition(b"\n")
        words = json.loads(said)
        return cls(str(words["symbol"]), str(words["returns"]), tuple(map(str, words["needs"])), machine)


def compile_code(function: Callable[..., Any], given: Sequence[Any]) -> MachineCode:
    """Compile a function for such arguments.

    Raises:
        RunError: this numba is made in another way. TypeError: the function returns what Python cannot take.
    """
    import numba

    jit: Any = numba.njit  # whose types know not all options
    try:  # of numba's own, seen to be there from 0.60 to 0.68
        made = jit(_nrt=False, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)
        result = made._compiler.compile(tuple(map(numba.typeof, given)), None)
        declared = [one.name for one in result.library._final_module.functions if one.is_declaration]
        returns, symbol = str(result.signature.return_type), result.fndesc.llvm_func_name
        machine = result.library._get_compiled_object()
    except (AttributeError, KeyError) as error:
        raise RunError(
            f"numba {numba.__version__} compiles in a way that commbench does not know ({error}): "
            "pip install 'numba>=0.60,<0.69'"
        ) from error
    if returns not in _RETURNS:
        raise TypeError(f"{function.__name__} returns {returns}; known: {', '.join(_RETURNS)}")
    return MachineCode(symbol, returns, tuple(name for name in declared if not name.startswith("llvm.")), machine)


def link(code: MachineCode, given: Sequence[Any]) -> Callable[..., Any]:
    """A compiled function as Python calls it, with such arguments.

    Raises:
        ValueError: the file holds no such function.
    """
    address, memory = (None if code.needs else map_code(code.machine, code.symbol)) or _linked(code)
    return _caller(memory, address, _RETURNS[code.returns], list(map(type, _words(given))))


def _linked(code: MachineCode) -> tuple[int, Any]:
    """Address of the function, linked by llvmlite, and what must live as long as it."""
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    if any(binding.address_of_symbol(name) is None for name in code.needs):
        import numba  # noqa: F401  it brings what the system has not
    machine = binding.Target.from_default_triple().create_target_machine()
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
    engine.add_object_file(binding.ObjectFileRef.from_data(code.machine))
    engine.finalize_object()
    address = engine.get_function_address(code.symbol)
    if not address:
        raise ValueError(f"it holds no {code.symbol}")
    return address, engine


def _caller(memory: Any, address: int, returns: Any, words: Sequence[type]) -> Callable[..., Any]:
    """As numba's convention for processors has it (numba.core.callconv.CPUCallConv): where the result goes, where an
    exception goes, then all arguments one by one; returns a status.
    """
    native: dict[type, Any] = {int: ctypes.c_int64, float: ctypes.c_double, bool: ctypes.c_bool}
    pointers = (ctypes.c_void_p, ctypes.c_void_p)
    function = ctypes.CFUNCTYPE(ctypes.c_int32, *pointers, *(native[word] for word in words))(address)

    def called(*given: Any) -> Any:
        result, exception = returns(), ctypes.c_void_p()
        status = function(ctypes.addressof(result), ctypes.addressof(exception), *_words(given))
        if status not in (0, _NO_VALUE):
            raise RunError(f"compiled code failed with status {status}: please report this")
        return None if status == _NO_VALUE else result.value

    called.memory = memory  # type: ignore[attr-defined]  # the code lives as long as it
    return called


def _words(given: Sequence[Any]) -> list[Any]:
    """Arguments as numba hands them over, a number for every word: an array is owner, parent, size, item size, address,
    shape and strides.
    """
    words: list[Any] = []
    for value in given:
        if isinstance(value, np.ndarray):
            address: int = value.__array_interface__["data"][0]
            words += (0, 0, value.size, value.itemsize, address, *value.shape, *value.strides)
        elif isinstance(value, tuple):
            words += _words(value)
        elif isinstance(value, np.generic):
            words.append(value.item())
        else:
            words.append(value)
    return words


def kind_of(given: Sequence[Any]) -> tuple[Any, ...]:
    """What code depends on of its arguments."""
    return tuple(
        (value.dtype, value.ndim, _layout(value))
        if isinstance(value, np.ndarray)
        else (type(value), kind_of(value))
        if isinstance(value, tuple)
        else type(value)
        for value in given
    )


def _layout(array: Any) -> int:
    """How an array lies in memory; of what is in both orders, as numba does, C's."""
    flags: int = array.flags.num
    return flags & (_C_ORDER | _OTHERS if flags & _C_ORDER else _FORTRAN_ORDER | _OTHERS)
