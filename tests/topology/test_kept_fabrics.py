# SPDX-License-Identifier: Apache-2.0
"""Fabrics kept on disk are those that their files describe, whatever has changed; they take no YAML or pydantic."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from commbench.errors import TopologyError
from commbench.topology import kept, load, search
from commbench.topology.fabric import Fabric
from commbench.topology.load import list_topologies, load_fabric

ROOT = Path(__file__).parents[2]
FILES = ("fat-tree-16", "dgx-h100", "dgx-h100-x4")  # the last one takes its hosts from the one before


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of topologies that counts as shipped, and one to keep fabrics in: its neighbour "kept"."""
    folder = tmp_path / "topologies"
    (folder / "devices").mkdir(parents=True)
    for name in (*FILES, "devices/h100-sxm5-80gb"):
        (folder / f"{name}.yaml").write_bytes((ROOT / "topologies" / f"{name}.yaml").read_bytes())
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kept"))
    for module in (search, kept):
        monkeypatch.setattr(module, "search_directories", lambda environment=None: (folder,))
    return folder


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of files that were read in full."""
    names: list[str] = []
    real = load._built

    def counted(path: Path) -> tuple[Fabric, list[Path]]:
        names.append(path.stem)
        return real(path)

    monkeypatch.setattr(load, "_built", counted)
    return names


def alike(a: Fabric, b: Fabric) -> bool:
    pairs = [(getattr(a, each.name), getattr(b, each.name)) for each in fields(Fabric)]
    return all(
        np.array_equal(x, y) and x.dtype == y.dtype if isinstance(x, np.ndarray) else x == y for x, y in pairs
    )


@pytest.mark.parametrize("name", [name for name in list_topologies() if not name.endswith(("16384", "131072"))])
def test_what_is_kept_is_what_the_file_says(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    first = load_fabric(name)
    again = kept.find_fabric(load.find_topology(name))
    if again is None:  # too big to be worth it
        assert sum(value.nbytes for value in vars(first).values() if isinstance(value, np.ndarray)) > kept.MOST_BYTES
        return
    assert alike(first, again)
    assert not again.src.flags.writeable


def test_a_file_is_read_once(shipped: Path, built: list[str]) -> None:
    assert alike(load_fabric("dgx-h100-x4"), load_fabric("dgx-h100-x4"))
    assert built == ["dgx-h100-x4"]


def swap(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize("file", ["dgx-h100-x4", "dgx-h100"])
def test_an_edited_file_is_read_again(file: str, shipped: Path, built: list[str]) -> None:
    """Also the one that its hosts come from; neither size nor time of the file needs to change."""
    before = load_fabric("dgx-h100-x4")
    path = shipped / f"{file}.yaml"
    times = path.stat()
    swap(path, "400 Gbit/s", "300 Gbit/s") if file == "dgx-h100-x4" else swap(path, "25 GB/s", "15 GB/s")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert load_fabric("dgx-h100-x4").bandwidths.sum() < before.bandwidths.sum()
    assert len(built) == 2


def test_a_host_file_that_is_gone_is_missed(shipped: Path) -> None:
    load_fabric("dgx-h100-x4")
    (shipped / "dgx-h100.yaml").unlink()
    with pytest.raises(TopologyError, match="dgx-h100"):
        load_fabric("dgx-h100-x4")


def test_a_device_that_is_gone_is_missed(shipped: Path) -> None:
    load_fabric("dgx-h100")
    (shipped / "devices" / "h100-sxm5-80gb.yaml").unlink()
    with pytest.raises(TopologyError, match="device"):
        load_fabric("dgx-h100")


def test_edited_code_reads_again(shipped: Path, built: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    load_fabric("fat-tree-16")
    source = shipped / "fabrics.py"
    source.write_text("# another way to wire it\n", encoding="utf-8")
    monkeypatch.setattr(kept, "_SOURCES", (*kept._SOURCES, source))
    kept._surroundings.cache_clear()
    load_fabric("fat-tree-16")
    kept._surroundings.cache_clear()
    assert built == ["fat-tree-16", "fat-tree-16"]


@pytest.mark.parametrize(
    "damage", [lambda held: held[:10], lambda held: b"", lambda held: held[:-9] + bytes([held[-9] ^ 1]) + held[-8:]]
)
def test_a_damaged_file_is_thrown_away(
    damage: Callable[[bytes], bytes], shipped: Path, built: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    whole = load_fabric("fat-tree-16")
    (path,) = (shipped.parent / "kept").iterdir()
    path.write_bytes(damage(path.read_bytes()))
    assert alike(load_fabric("fat-tree-16"), whole)
    assert alike(load_fabric("fat-tree-16"), whole)
    assert built == ["fat-tree-16"] * 2
    assert [message.partition(" (")[0] for message in caplog.messages] == [f"{path}: damaged"]


def test_where_nothing_can_be_kept_nothing_is_said(
    shipped: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/dev/null/x")
    assert load_fabric("fat-tree-16").num_ranks == 16
    assert caplog.messages == []


def test_files_of_the_user_are_not_kept(shipped: Path, tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_bytes((shipped / "fat-tree-16.yaml").read_bytes())
    load_fabric(own)
    assert not (tmp_path / "kept").exists()


LIGHT = """
import sys
from commbench.topology.load import load_fabric
load_fabric("dgx-h100-x4")
print([name for name in ("pydantic", "yaml") if name in sys.modules])
"""


def test_what_is_kept_needs_neither_yaml_nor_pydantic(tmp_path: Path) -> None:
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    shown = [
        subprocess.run([sys.executable, "-c", LIGHT], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert [done.stdout for done in shown] == ["['pydantic', 'yaml']\n", "[]\n"]
