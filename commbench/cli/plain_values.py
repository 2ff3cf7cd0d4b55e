# SPDX-License-Identifier: Apache-2.0
"""Values of options that need no validator: most are defaults, words or plain numbers.

typer makes a validator of pydantic for every option, also for those left out: a third of what a short command takes.
"""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, get_args

__all__ = ["read_plainly"]

_NUMBERS: Mapping[type, tuple[re.Pattern[str], Callable[[str], Any]]] = MappingProxyType(
    {
        int: (re.compile(r"-?[0-9]{1,18}"), int),
        float: (re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?"), float),
    }
)
"""How text of a number looks that any validator reads alike."""


def read_plainly(command: Any, ctx: Any, *, inner: bool = True) -> Any:
    """The same command, whose values typer validates only where they are not plain.

    Args:
        command: or a group. ctx: in which it is called, or its own. inner: with the commands of a group.
    """
    for parameter in command.get_params(ctx):
        if hasattr(parameter, "_runtime_param") and hasattr(parameter, "type_descriptor"):  # as typer has it since 0.29
            parameter._runtime_param = _PlainReader()
    for each in getattr(command, "commands", {}).values() if inner else ():
        read_plainly(each, ctx)
    return command


class _PlainReader:
    """What reads the values of one option."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value as the command gets it; raises what typer raises."""
        one = param.nargs == 1 and not param.multiple
        if one and value is None:
            return None
        info, annotation = param.type_descriptor.parameter_info, param.type_descriptor.annotation
        if one and (info.parser, info.min, info.max) == (None, None, None):
            if type(value) is annotation and annotation in (str, int, float):
                return value
            if type(value) is int and annotation is float:  # a default
                return float(value)
            if isinstance(value, str) and value in get_args(annotation):  # choices, as they are written
                return value
            number = _NUMBERS.get(annotation)
            if number and isinstance(value, str) and number[0].fullmatch(value):
                return number[1](value)
        param._runtime_param = None
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)
