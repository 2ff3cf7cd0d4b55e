# SPDX-License-Identifier: Apache-2.0
"""The gallery is what its commands give today."""

from benchmarks.gallery import CASES, DOCS, page, records_of


def test_the_page_is_what_its_commands_give_and_every_picture_is_there() -> None:
    assert page([(case, records_of(case)) for case in CASES]) == (DOCS / "gallery.md").read_text(encoding="utf-8")
    assert {f"{case.name}.png" for case in CASES} == {file.name for file in (DOCS / "gallery").iterdir()}
    for file in (DOCS / "gallery").iterdir():
        assert file.read_bytes().startswith(b"\x89PNG")
