# SPDX-License-Identifier: Apache-2.0
"""Device files: those that are shipped, how they are found, and what is said when one is wrong or says too little."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commbench.errors import CommbenchError, InputError, TopologyError
from commbench.topology import Provenance, list_topologies, load_fabric
from commbench.topology.devices import load_device
from commbench.topology.search import list_devices, matching_devices
from tests.topology.test_errors import SHIPPED as FOLDER

SHIPPED = sorted(path.stem for path in (FOLDER / "devices").glob("*.yaml"))
GPU = """name: my-gpu
description: One that I have.
flops:
  bf16: {value: 312 TFLOP/s, provenance: vendor, source: data sheet of my GPU}
  fp8: 624 TFLOP/s
memory_capacity: 80 GB
memory_bandwidth: 2039 GB/s
memory_margin: 2 GiB
l2: 40 MiB
launch: 3.7 us
"""


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_device_says_what_it_is_and_who_says_so(name: str) -> None:
    device = load_device(name)
    assert (device.name, Path(device.origin).name) == (name, f"{name}.yaml")
    assert device.description.endswith(".")
    assert set(device.others) >= {"memory_margin", "launch"}
    assert 1e-6 < device.others["launch"] / 1e12 < 1e-5
    assert 10 < device.memory_bytes / 1e9 < 300
    assert 0.2e12 < device.memory_bytes_per_s < 10e12
    assert sorted(device.peak_flops.values()) == list(device.peak_flops.values())  # fewer bits are not slower
    for path, number in device.numbers.items():
        assert isinstance(number.provenance, Provenance)
        assert len(number.source) >= 15, f"{name}: {path}: {number.source!r} is no source"
    if name.endswith("gb"):
        assert f"-{device.memory_bytes // 10**9}gb" in name


FIGURES = {  # peaks in TFLOP/s, memory in GB and GB/s, as the data sheets have them
    "v100-sxm2-32gb": ({"fp32": 15.7, "fp16": 125}, 32, 900),
    "a100-sxm4-40gb": ({"fp32": 19.5, "tf32": 156, "fp16": 312, "bf16": 312}, 40, 1555),
    "a100-sxm4-80gb": ({"fp32": 19.5, "tf32": 156, "fp16": 312, "bf16": 312}, 80, 2039),
    "h100-sxm5-80gb": ({"fp32": 67, "tf32": 494.5, "fp16": 989.5, "bf16": 989.5, "fp8": 1979}, 80, 3350),
    "h200-sxm-141gb": ({"fp32": 67, "tf32": 494.5, "fp16": 989.5, "bf16": 989.5, "fp8": 1979}, 141, 4800),
    "b200-sxm-180gb": ({"fp32": 75, "tf32": 1125, "fp16": 2250, "bf16": 2250, "fp8": 4500, "fp4": 9000}, 180, 8000),
    "mi300x-192gb": ({"fp32": 163.4, "tf32": 653.7, "fp16": 1307.4, "bf16": 1307.4, "fp8": 2614.9}, 192, 5300),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_those_of_the_data_sheets(name: str) -> None:
    device, (peaks, gigabytes, rate) = load_device(name), FIGURES[name]
    assert dict(device.peak_flops) == {key: value * 1e12 for key, value in peaks.items()}
    assert (device.memory_bytes, device.memory_bytes_per_s) == (gigabytes * 10**9, rate * 1e9)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("h100-sxm5-80gb", ["h100-sxm5-80gb"]),
        ("H100-SXM", ["h100-sxm5-80gb"]),
        ("h100", ["h100-pcie-80gb", "h100-sxm5-80gb"]),
        ("h20", ["h20-sxm5-96gb"]),  # and not the H200: a number is not cut
        ("mi300", ["mi300x-192gb"]),
        ("a100-sxm4", ["a100-sxm4-40gb", "a100-sxm4-80gb"]),
    ],
)
def test_a_device_is_found_by_the_beginning_of_its_name(text: str, found: list[str]) -> None:
    assert list(matching_devices(text)) == found


def test_a_device_that_is_not_there_or_not_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMMBENCH_TOPOLOGIES", raising=False)
    with pytest.raises(TopologyError, match=r"^device 'h100' is one of h100-pcie-80gb, h100-sxm5-80gb: say which$"):
        load_device("h100")
    with pytest.raises(TopologyError, match=r"^device 'h100-smx5': not found; did you mean h100-sxm5-80gb or "):
        load_device("h100-smx5")
    with pytest.raises(TopologyError, match=r"^device 'a10': not found"):  # another GPU than the A100
        load_device("a10")
    for text in ("", "." * 5000, "none.yaml"):
        with pytest.raises(TopologyError, match=r"^device '.*': (not found|no such file)"):
            load_device(text)


def test_own_devices_stand_beside_own_topologies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices" / "my-gpu.yaml").write_text(GPU)
    (tmp_path / "devices" / "My-TPU.yaml").write_text(GPU.replace("my-gpu", "My-TPU"))
    monkeypatch.setenv("COMMBENCH_TOPOLOGIES", str(tmp_path))
    assert "my-gpu" in list_devices()
    assert "my-gpu" not in list_topologies()
    assert load_device("My-TPU").name == load_device("my-tpu").name == "My-TPU"
    device = load_device("my-gpu")
    assert dict(device.others) == {"memory_margin": 2 * 2**30, "l2": 40 * 2**20, "launch": 3_700_000}
    assert device.numbers["flops.fp8"].provenance is Provenance.ASSUMED
    assert device.numbers["flops.bf16"].source == "data sheet of my GPU"


def test_what_a_file_does_not_say_is_an_error_where_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(GPU[: GPU.index("memory_margin")])
    device = load_device(path)
    with pytest.raises(InputError) as error:
        device.peak("fp16")
    assert str(error.value) == f"device my-gpu has no peak for dtype 'fp16' ({path}: flops.fp16); known: bf16, fp8"
    for key in ("memory_margin", "l2", "launch"):
        with pytest.raises(InputError) as error:
            device.other(key)
        assert str(error.value) == f"device my-gpu has no {key}: add the key to {path}"


UNITS = "give a number and a unit (FLOP/s, kFLOP/s, KFLOP/s, MFLOP/s, GFLOP/s, TFLOP/s, PFLOP/s), for example"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: my-gpu\n", "", "line 1: name: missing; every key must be given, there are no defaults, for example "
         "`name: my-cluster`"),
        ("memory_capacity: 80 GB\n", "", "memory_capacity: missing; every key must be given, there are no defaults, "
         "for example `memory_capacity: 80 GB`"),
        ("fp8: 624 TFLOP/s", "fp8: 624", f"line 5: flops.fp8: 624 is not a rate of computing: {UNITS} '312 TFLOP/s'"),
        ("fp8: 624 TFLOP/s", "fp8: 0 TFLOP/s", "line 5: flops.fp8: rate of computing '0 TFLOP/s' must be from 1 "
         "kFLOP/s to 1,000,000 PFLOP/s"),
        ("fp8: 624 TFLOP/s", "fp8: 9e30 FLOP/s", "'9e30 FLOP/s' must be from"),
        ("fp8: 624 TFLOP/s", "fp9: 624 TFLOP/s", "line 5: flops.fp9: unknown key; did you mean fp8? known keys here: "
         "fp32, tf32, fp16, bf16, fp8, fp4"),
        ("memory_capacity: 80 GB", "memory_capacity: 80 GiBs", "line 6: memory_capacity: '80 GiBs' is not a size"),
        ("memory_capacity: 80 GB", "memory_capacity: 0 GB", "line 6: memory_capacity: 0 GB must be above "
         "memory_margin, 2 GiB"),
        ("launch: 3.7 us", "launch: -1 us", "line 10: launch: duration '-1 us' must not be negative"),
        ("l2: 40 MiB", "l2: {value: 40 MiB, source: me}", "line 9: l2.provenance: missing"),
        ("l2: 40 MiB", "l2_cache: 40 MiB", "line 9: l2_cache: unknown key; known keys here: name, "),
        ("l2: 40 MiB", "l2: 40 MiB\nl2: 50 MiB", "l2"),
        (GPU, "- 1", "must be a mapping of keys, for example `name: my-gpu`"),
    ],
)  # fmt: skip
def test_a_bad_file_is_told_by_line_key_value_and_rule(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GPU
    (tmp_path / "x.yaml").write_text(GPU.replace(old, new))
    with pytest.raises(TopologyError) as error:
        load_device(tmp_path / "x.yaml")
    assert str(error.value).startswith(f"{tmp_path / 'x.yaml'}: ")
    assert message in str(error.value)


def test_a_device_without_any_peak_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(re.sub(r"flops:\n(  .*\n)*", "flops: {}\n", GPU))
    with pytest.raises(TopologyError, match="line 3: flops: no number format; give one of fp32, tf32, fp16, bf16, fp8"):
        load_device(tmp_path / "x.yaml")


_KEYS = ["name", "description", "flops", "bf16", "memory_capacity", "memory_bandwidth", "l2", "launch", "value", "x"]
_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(("80 GB", "1 TFLOP/s", "1 us", "-1 B", "1e999 GB", "2 TB/s", "vendor")),
)  # fmt: skip
_TREES = st.recursive(
    _VALUES, lambda inner: st.dictionaries(st.sampled_from(_KEYS), inner, max_size=8) | st.lists(inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(_KEYS), _TREES, max_size=8), st.sets(st.sampled_from(_KEYS)))
def test_any_file_is_read_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, changes: dict, without: set[str]
) -> None:
    import yaml

    data = {key: value for key, value in (yaml.safe_load(GPU) | changes).items() if key not in without}
    path = tmp_path_factory.getbasetemp() / "any-device.yaml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8", errors="replace")
    try:
        device = load_device(path)
    except CommbenchError as error:
        said = str(error)
    else:
        said = f"{path}: "
        assert all(1e3 <= peak <= 1e21 for peak in device.peak_flops.values())
        assert device.memory_bytes > device.others.get("memory_margin", 0) >= 0
    assert said.startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("dgx-a100", "a100-sxm4"), ("dgx-h100", "h100-sxm5-80gb"), ("dgx-v100", "v100-sxm2"),
        ("hgx-a800", "a800-sxm4-80gb"), ("hgx-h800", "h800-sxm5-80gb"), ("oam-mesh", "mi300x-192gb"),
        ("pcie-4090", "rtx-4090-24gb"), ("dgx-h100-x4", "h100-sxm5-80gb"), ("dgx-a100-x2", "a100-sxm4"),
        ("fat-tree-16", ""), ("shared-memory-4", ""),
    ],
)  # fmt: skip
def test_gpu_hosts_name_their_devices(name: str, device: str) -> None:
    assert load_fabric(name).device == device
    assert load_fabric(name).device == device


def test_a_host_with_an_unknown_device_is_refused_with_its_line(tmp_path: Path) -> None:
    text = (FOLDER / "dgx-h100.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(GPU)
    (tmp_path / "x.yaml").write_text(text.replace("device: h100-sxm5-80gb", "device: ./mine.yaml"))
    with pytest.raises(TopologyError, match=r"host\.device: device './mine\.yaml': not found"):  # names alone
        load_fabric(tmp_path / "x.yaml")
    (tmp_path / "x.yaml").write_text(text.replace("device: h100-sxm5-80gb", "device: h100-smx5"))
    with pytest.raises(TopologyError, match=r"x\.yaml: line 9: host\.device: device 'h100-smx5': not found; did you"):
        load_fabric(tmp_path / "x.yaml")


def test_a_plain_host_may_name_a_device(tmp_path: Path) -> None:
    text = (FOLDER / "star-8.yaml").read_text().replace("wiring: plain", "wiring: plain\n  device: gb10-128gb")
    (tmp_path / "x.yaml").write_text(text)
    assert load_fabric(tmp_path / "x.yaml").device == load_fabric(tmp_path / "x.yaml").device == "gb10-128gb"
