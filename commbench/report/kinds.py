# SPDX-License-Identifier: Apache-2.0
"""Which section of the page shows a kind of record."""

from collections.abc import Mapping, Sequence
from enum import Enum

from commbench.errors import InputError
from commbench.results.records import Record

__all__ = ["SECTIONS", "PageSection", "by_section", "page_title"]


class PageSection(Enum):
    """The sections of the page that are made of records."""

    COLLECTIVES = "collectives"
    TRAINING = "training steps"
    LIVE = "pipelines, blocks and products on live ranks"


SECTIONS: Mapping[str, PageSection] = {
    **dict.fromkeys(("measured", "simulated", "compared", "summary"), PageSection.COLLECTIVES),
    "simulated-step": PageSection.TRAINING,
    **dict.fromkeys(("pipeline-measured", "pipeline-simulated", "pipeline-compared"), PageSection.LIVE),
    **dict.fromkeys(("tensor-parallel", "tensor-parallel-simulated", "tensor-parallel-compared"), PageSection.LIVE),
    **dict.fromkeys(("gemm", "overlap"), PageSection.LIVE),
}
"""By kind, for every kind of ``results.kinds``."""


def by_section(records: Sequence[Record]) -> dict[PageSection, list[Record]]:
    """The records of each section, in their order.

    Raises:
        InputError: a kind that no section shows; names it and the known ones.
    """
    found: dict[PageSection, list[Record]] = {section: [] for section in PageSection}
    for record in records:
        if record.kind not in SECTIONS:
            known = ", ".join(SECTIONS)
            raise InputError(f"no section of the page shows records of kind {record.kind}; known: {known}")
        found[SECTIONS[record.kind]].append(record)
    return found


def page_title(records: Sequence[Record]) -> str:
    """A heading for a page of these records, where nobody gave one; a live step's own collectives go with it.

    Raises:
        InputError: a kind that no section shows.
    """
    found = by_section(records)
    if found[PageSection.LIVE]:
        return "On live ranks"
    return "Collective communication" if found[PageSection.COLLECTIVES] else "Training steps"
