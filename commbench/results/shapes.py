# SPDX-License-Identifier: Apache-2.0
"""Mappings of records that are open: what is known of their keys stands in :mod:`commbench.results.facts`.

Only pydantic asks, when a line is read: code that makes a record has plain mappings, and loads no facts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

__all__ = ["Environment", "Shaped"]


@dataclass(frozen=True, slots=True)
class Shaped:
    """A mapping whose known keys have the types of the class of this name in ``facts``; other keys are free."""

    shape: str

    def __get_pydantic_core_schema__(self, source: Any, handler: "GetCoreSchemaHandler") -> "CoreSchema":
        from commbench.results import facts

        return handler.generate_schema(getattr(facts, self.shape))


Environment = Annotated[Mapping[str, Any], Shaped("EnvironmentFacts")]
