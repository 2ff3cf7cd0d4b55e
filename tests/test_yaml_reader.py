# SPDX-License-Identifier: Apache-2.0
"""The strict reader of YAML: what it reads as people mean it, what it refuses and with which words, what it bounds."""

import random
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from commbench.errors import InputError
from commbench.yaml_reader import MOST_BYTES, MOST_NODES, Document, problems_text, read_yaml

ROOT = Path(__file__).resolve().parents[1]


def read(folder: Path, text: str | bytes) -> Document:
    path = folder / "x.yaml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_yaml(path, InputError, shown="x.yaml", example="model: gpt3-175b")


def refusal(folder: Path, text: str | bytes) -> str:
    with pytest.raises(InputError) as caught:
        read(folder, text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("+7", 7),
        ("-007", -7),
        ("1_000", 1000),
        ("1e3", 1000.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1.", 1.0),
        ("1:20", "1:20"),
        ("12:30:45", "12:30:45"),
        ("2026-01-31", "2026-01-31"),
        ("=", "="),
        ("true", True),
        ("False", False),
        ("null", None),
        ("", None),
        ("'010'", "010"),
        ('"yes"', "yes"),
        ("400 Gbit/s", "400 Gbit/s"),
        ("9223372036854775807", 2**63 - 1),
        ("[010, 1e2]", [10, 100.0]),
    ],
)
def test_values_are_read_as_people_mean_them(tmp_path: Path, text: str, value: Any) -> None:
    found = read(tmp_path, f"a: {text}\n").data["a"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: yes", "line 1: a: 'yes': type true, or put it in quotes if it is text"),
        ("a:\n  b: Off", "line 2: a.b: 'Off': type false, or put it in quotes if it is text"),
        ("a: 0x1F", "line 1: a: '0x1F': type the number in decimal digits, or put it in quotes if it is text"),
        ("a: 0o17", "line 1: a: '0o17': type the number in decimal digits, or put it in quotes if it is text"),
        ("a: [.nan]", "line 1: a.0: '.nan': must be a finite number"),
        ("a: -.INF", "line 1: a: '-.INF': must be a finite number"),
        ("a: 1e400", "line 1: a: '1e400': is too large, numbers end at 2^63; put it in quotes if it is text"),
        ("a: 9223372036854775808", "numbers end at 2^63"),
        ("a: " + "9" * 400, "a: '99999999999999999999...99999999': is too large"),
        ("a: 1__0", "line 1: a: '1__0': is no number"),
        ('a: "x\\e[1m"', "line 1: a: 'x\\x1b[1m': text must not hold control characters"),
        ('a: "\\ud800"', "text must not hold control characters"),
        ('a: "\\UFFFFFFFF"', "not YAML: an escape such as \\U stands for no character"),
        ("a: !!python/object/apply:os.system [ls]", "line 1: tags such as 'tag:yaml.org,2"),
        ("a: !!int '3'", "line 1: tags such as 'tag:yaml.org,2002:int' are not read; leave it out"),
        ("b: &x {c: 1}\na:\n  <<: *x", "line 3: key '<<': merging is not read here; write the keys out"),
        ("hosts: 8\nnics: 1\nhosts: 9", "line 3: key 'hosts' is given twice, first in line 1; keep one"),
        (
            "global-batch: 8\nlayers: 2\nglobal_batch: 9",
            "line 3: key 'global_batch' is 'global-batch' of line 1 again; keep one",
        ),
        ("a: &a [*a]", "line 1: this holds itself by an alias"),
        ("a: &a {b: {c: *a}}", "line 1: this holds itself by an alias"),
        ("&a a: *b", "not YAML: line 1: found undefined alias 'b'"),
        ("[a]: 1", "line 1: a key must be text, without control characters"),
        ('"a\\0": 1', "line 1: a key must be text, without control characters"),
        ("a: b: c", "not YAML: line 1: mapping values are not allowed here"),
        ("a: [1", "not YAML: line 1: "),
        ("a: 1\n\tb: 2", "not YAML: line 2: found character '\\t' that cannot start any token"),
        ("a: 1\n---\na: 2", "not YAML: line 2: but found another document"),
        (b"a: 1\nb: \xff", "line 2: is not UTF-8 text (byte 0xff)"),
        ("a: 1".encode("utf-16"), "line 1: is not UTF-8 text"),
        (b"a: \0", "not YAML: "),
        ("", "must be a mapping of keys, for example `model: gpt3-175b`"),
        ("- 1", "must be a mapping of keys"),
        ("7", "must be a mapping of keys"),
    ],
)
def test_what_is_refused_says_where_and_what_to_type(tmp_path: Path, text: str | bytes, message: str) -> None:
    found = refusal(tmp_path, text)
    assert found.startswith("x.yaml: ")
    assert message in found
    assert "\n" not in found


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    assert refusal(tmp_path, "a: yes\nb: 1\nc: 0x2\nb: 2\n").splitlines() == [
        "x.yaml: 3 errors",
        "  line 1: a: 'yes': type true, or put it in quotes if it is text",
        "  line 3: c: '0x2': type the number in decimal digits, or put it in quotes if it is text",
        "  line 4: key 'b' is given twice, first in line 2; keep one",
    ]
    many = problems_text("x.yaml", [(i, "no") for i in range(1, 31)]).splitlines()
    assert (many[0], len(many), many[-1]) == ("x.yaml: 30 errors", 22, "  and 10 more")


def test_lines_of_keys_also_behind_an_alias(tmp_path: Path) -> None:
    found = read(tmp_path, "a: &x\n  b:\n    - c: 1\n    - d: 2\ne:\n  f: *x\n")
    assert [found.line(path) for path in (["a"], ["a", "b"], ["a", "b", 0], ["a", "b", 1, "d"])] == [1, 2, 3, 4]
    assert [found.line(path) for path in (["e", "f"], ["e", "f", "b", 1], ["e", "none", "x"], [])] == [6, 4, 5, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a0: &a0 x\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)), "aliases"),
        ("a: [" + "1," * MOST_NODES + "]", f"more than {MOST_NODES} keys and values"),
        ("a: " + "x" * MOST_BYTES, f"more than {MOST_BYTES} bytes"),
        ("a: " + "[" * 40 + "]" * 40, "line 1: more than 32 levels"),
        ("a: " + "[" * 100_000, "more than 32 levels"),
        ("a: " + "{b: " * 5000 + "1" + "}" * 5000, "more than 32 levels"),
        ("".join(f"{' ' * i}a:\n" for i in range(900)), "more than 32 levels"),
    ],
    ids=["alias bomb", "many", "long", "deep", "very deep", "deep mappings", "deep blocks"],
)
def test_small_files_make_no_huge_work(tmp_path: Path, text: str, message: str) -> None:
    start = time.process_time()
    assert message in refusal(tmp_path, text)
    assert time.process_time() - start < 10


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    places = {tmp_path / "none": "No such file", tmp_path: "Is a directory", Path("a\0b"): "null byte"}
    for path, reason in places.items():
        with pytest.raises(InputError, match=f"cannot be read: .*{reason}"):
            read_yaml(path, InputError)


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    """A few hundred mutations of files that ship; the large fuzzer stands with those of the other readers."""
    draw = random.Random(5)
    texts = [path.read_bytes() for folder in ("topologies", "sims") for path in sorted((ROOT / folder).glob("*.yaml"))]
    odd = [b"0", b":", b"- ", b"\n", b"&a ", b"*a", b"yes", b"{", b"[", b"'", b'"', b"\\", b"\xff", b"!", b"\t", b"010"]
    for _ in range(300):
        text = bytearray(draw.choice(texts))
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(text))
            text[at : at + draw.randint(0, 3)] = draw.choice(odd)
        with suppress(InputError):
            read(tmp_path, bytes(text))


def test_both_parsers_read_every_file_that_is_shipped_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """libyaml's events differ from PyYAML's own in small things; values and lines must not."""
    files = sorted((ROOT / "topologies").rglob("*.yaml")) + sorted((ROOT / "commbench").rglob("*.yaml"))
    quick = [read_yaml(file, InputError) for file in files]
    monkeypatch.setattr(yaml, "__with_libyaml__", False)
    for file, fast in zip(files, quick, strict=True):
        slow = read_yaml(file, InputError)
        assert fast.data == slow.data
        assert [fast.line((key,)) for key in fast.data] == [slow.line((key,)) for key in slow.data]
    assert len(files) > 80


@pytest.mark.parametrize("quick", [True, False])
def test_an_unclear_word_is_answered_with_what_the_key_may_be(
    quick: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yaml, "__with_libyaml__", quick)
    (tmp_path / "x.yaml").write_text("recompute: on\n", encoding="utf-8")
    with pytest.raises(InputError, match="recompute: 'on': must be none, selective or full"):
        read_yaml(tmp_path / "x.yaml", InputError, words={"recompute": "none, selective or full"})
