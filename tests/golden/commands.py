# SPDX-License-Identifier: Apache-2.0
"""The commands whose simulated times and refusals are kept, as text: they outlive every rebuilding of the inside."""

from collections.abc import Iterator
from itertools import product

from commbench.collectives.registry import ALGORITHMS

__all__ = ["REFUSED", "SIMULATED"]

_HERE = "tests/golden/scenarios"
_WHERE = ("star-8", "dgx-h100-x2", "leaf-spine-16-4to1")
_SMALL = (
    "dgx-a100", "dgx-a100-x2", "dgx-h100", "dgx-h100-x4", "dgx-h100-x8-rail-only", "dgx-v100", "fat-tree-16",
    "fat-tree-64", "fat-tree-k4", "hgx-a800", "hgx-h800", "oam-mesh", "pcie-4090", "shared-memory-4", "two-rail-8",
)  # fmt: skip
_LARGE = ("dgx-h100-x16", "dgx-h100-x128", "fat-tree-256", "fat-tree-1024", "leaf-spine-256-2to1", "fat-tree-131072")


def _every_algorithm() -> Iterator[str]:
    """Each of the registry on a star, on two hosts of eight GPUs and on a crowded leaf-spine."""
    for collective, algorithm in sorted(ALGORITHMS):
        if algorithm == "nvls":
            yield f"sim {collective} -t dgx-h100 -a nvls -b 1M"
            continue
        places = ("star-8",) if algorithm == "sharp" else _WHERE
        size = "" if collective == "barrier" else " -b 1M"
        yield from (f"sim {collective} -t {place} -a {algorithm}{size}" for place in places)


def _every_fabric() -> Iterator[str]:
    for place in _SMALL:
        yield f"sim all-reduce -t {place} -a ring -b 8M"
        yield f"sim all-to-all -t {place} -a pairwise -b 4M --seed 3"
        yield f"sim all-reduce -t {place} -a double-binary-tree --slices 4 -b 4M"
    for place, detail in product((*_SMALL[:4], *_LARGE), ("folded", "collective")):
        yield f"sim all-reduce -t {place} -a ring -b 64M --detail {detail}"
    for place in ("dgx-h100-x4", "leaf-spine-16-4to1", "fat-tree-k4"):
        yield f"sim all-to-all -t {place} -a direct -b 16M --detail collective"
        yield f"sim reduce-scatter -t {place} -a ring -b 16M --detail folded"
        yield f"sim all-gather -t {place} -a ring -b 16M --detail folded"


def _options() -> Iterator[str]:
    for place, channels in product(("dgx-h100-x2", "dgx-h100-x4", "oam-mesh", "dgx-v100", "two-rail-8"), (2, 8)):
        yield f"sim all-reduce -t {place} -a ring -b 64M --channels {channels}"
    for slices, size in product((1, 3, 16), ("64K", "16M")):
        yield f"sim all-reduce -t dgx-h100-x2 -a double-binary-tree --slices {slices} -b {size}"
        yield f"sim broadcast -t fat-tree-16 -a ring --slices {slices} -b {size} --root 5"
        yield f"sim all-reduce -t dgx-h100-x2 -a hierarchical --slices {slices} -b {size}"
    for ranks in (1, 2, 3, 7, 12, 13):
        yield f"sim all-reduce -t leaf-spine-16-4to1 -a ring -b 1000 --ranks {ranks}"
        yield f"sim all-reduce -t dgx-h100-x2 -a halving-doubling -b 1M --ranks {ranks}"
        yield f"sim reduce -t fat-tree-16 -a rabenseifner -b 1M --ranks {ranks} --root {ranks - 1}"
    for group in (2, 4, 8):
        yield f"sim all-reduce -t fat-tree-16 -a hierarchical -b 4M --group {group}"
        yield f"sim all-to-all -t fat-tree-16 -a two-step -b 4M --group {group}"
    for dtype in ("float16", "float64", "int64"):
        yield f"sim all-reduce -t star-8 -a ring -b 1001 -d {dtype}"
    places = ("leaf-spine-16-4to1", "fat-tree-64", "dgx-h100-x4", "two-rail-8")
    policies = ("ecmp", "d-mod-k", "rail-aware")
    for place, routing, placement in product(places, policies, ("linear", "random")):
        yield f"sim all-to-all -t {place} -a pairwise -b 1M --routing {routing} --placement {placement} --seed 7"
    yield "sim all-reduce -t star-8 -a docs/msccl-ring-4.xml -b 1M --ranks 4"
    yield "sim all-reduce -t fat-tree-16 -a ring -b 64M --engine reference"
    yield "sim all-to-all -t leaf-spine-16-4to1 -a bruck -b 1M --engine reference"


def _disturbed() -> Iterator[str]:
    kinds = ("link-slow", "link-down-and-up", "slow-rank", "background", "several")
    algorithms = ("all-reduce -a ring", "all-to-all -a pairwise", "all-reduce -a double-binary-tree --slices 8")
    for kind, what in product(kinds, algorithms):
        yield f"sim {what} -t fat-tree-16 -b 64M --scenario {_HERE}/{kind}.yaml"
    for jitter, seed in product((0.1, 0.5), (0, 1)):
        yield f"sim all-reduce -t fat-tree-16 -a ring -b 64M --jitter {jitter} --seed {seed}"
        yield f"sim all-to-all -t leaf-spine-16-4to1 -a direct -b 1M --jitter {jitter} --seed {seed}"
    yield f"sim all-reduce -t fat-tree-16 -a ring -b 16M --jitter 0.2 --scenario {_HERE}/several.yaml"


_EFFICIENCIES = "--matrix-efficiency 0.6 --attention-efficiency 0.5 --memory-efficiency 0.8"
_TRAIN = f"sim train --device h100-sxm5-80gb {_EFFICIENCIES} --microbatch 1"
_GPT = f"{_TRAIN} --model gpt3-1.3b"


def _steps() -> Iterator[str]:
    schedules = (
        "gpipe", "1f1b", "interleaved-1f1b --stages-per-rank 2", "looped-bfs --stages-per-rank 2", "zb-h1", "zb-h2",
        "zbv", "dualpipev",
    )  # fmt: skip
    deep = f"{_TRAIN} --model megatron-22b"
    for schedule in schedules:
        yield f"{deep} -t dgx-h100 --pp 8 --global-batch 16 --schedule {schedule}"
        yield f"{deep} -t dgx-h100-x2 --pp 8 --dp 2 --global-batch 32 --schedule {schedule}"
        yield f"{deep} -t dgx-h100-x2 --pp 4 --tp 2 --sequence-parallel --dp 2 --global-batch 32 --schedule {schedule}"
    for zero in (0, 1, 2, 3):
        yield f"{_GPT} -t dgx-h100-x2 --dp 16 --global-batch 64 --zero {zero}"
        yield f"{_TRAIN} --model llama3-8b -t dgx-h100-x2 --tp 4 --dp 4 --global-batch 16 --zero {zero}"
    dense = f"{_TRAIN} --model llama3-8b -t dgx-h100-x2 --tp 8 --dp 2 --global-batch 8"
    for more in (
        "", "--sequence-parallel", "--recompute full", "--recompute selective", "--no-flash", "--attention full",
        "--overlap-tensor", "--slowdown 1.3", "--bucket 100M", "--ring double-binary-tree", "--dtype fp16",
        "--sequence 4096", "--precision mixed-adam", "--jitter 0.1 --seed 4", "--placement random --seed 2",
        "--routing ecmp --seed 1", "--engine reference", "--unfolded", "--rank-order dp-tp-cp-ep-pp",
        "--scenario sims/training/straggler.yaml", "--scenario sims/training/nic-at-half.yaml",
    ):  # fmt: skip
        yield f"{dense} {more}".rstrip()
    mixture = f"{_TRAIN} --model mixtral-8x7b -t dgx-h100-x4"
    yield f"{mixture} --tp 4 --ep 8 --dp 8 --global-batch 16"
    yield f"{mixture} --tp 2 --pp 2 --ep 4 --dp 8 --global-batch 32 --zero 1"
    deep_mixture = f"{_TRAIN} --model deepseek-v2 -t dgx-h100-x16"
    yield f"{deep_mixture} --pp 4 --ep 32 --dp 32 --global-batch 256 --zero 1 --recompute full"
    yield f"{deep_mixture} --tp 4 --pp 4 --ep 8 --dp 8 --global-batch 64 --zero 1 --sequence-parallel"
    yield f"{_TRAIN} --model llama4-maverick -t dgx-h100-x16 --tp 2 --pp 4 --ep 16 --dp 16 --global-batch 64"
    yield f"{_TRAIN} --model llama3-8b -t dgx-h100-x4 --tp 4 --cp 4 --dp 2 --global-batch 8"
    large = f"{_TRAIN} --model gpt3-175b --tp 8 --sequence-parallel --recompute full"
    yield f"{_TRAIN} --model gpt3-175b --tp 8 -t dgx-h100-x16 --pp 8 --dp 2 --global-batch 48 --scatter-gather"
    yield f"{large} -t dgx-h100-x16 --pp 8 --dp 2 --global-batch 48 --schedule interleaved-1f1b --stages-per-rank 3"
    yield f"{large} -t dgx-h100-x128 --pp 8 --dp 16 --global-batch 256"


_NVIDIA = (
    "dgx-v100", "dgx-a100", "dgx-a100-x4", "p4de-x2", "dgx-h100", "dgx-h100-x4", "dgx-h100-x16", "p5-x2", "a3-mega-x2",
    "a3-high-x2", "dgx-b200", "dgx-b200-x2", "gb200-nvl72", "gh200-quad-x2", "pcie-4090",
)  # fmt: skip
_AMD = ("mi300x", "mi300x-x2", "mi325x-x4", "mi355x-x2", "oam-mesh")


def _libraries() -> Iterator[str]:
    """What NCCL and RCCL would take, by their models."""
    for place in (*_NVIDIA, *_AMD):
        library = f"-t {place} --library {'rccl' if place in _AMD else 'nccl'}"
        yield from (f"sim all-reduce {library} -b {size} -e {size}" for size in ("8", "64K", "1M", "16M", "1G"))
        for collective in ("all-gather", "reduce-scatter", "broadcast"):
            yield f"sim {collective} {library} -b 64M"
    for version, size in product(("2.18", "2.21", "2.24", "2.27", "2.29"), ("256K", "2M", "8M")):
        yield f"sim all-reduce -t dgx-h100-x4 --library nccl --nccl-version {version} -b {size} -e {size}"
    for option in ("--nvls off", "--launch-mode threads", "--ranks 4", "-d float16"):
        yield f"sim all-reduce -t dgx-h100 --library nccl -b 4M -e 4M {option}"
    for option in ("--placement random --seed 3", "--ranks-per-host 2", "--jobs 2"):
        yield f"sim all-reduce -t dgx-h100-x4 --library nccl -b 256M {option}"
    yield "sim all-to-all -t dgx-h100 --library nccl -b 64M"


SIMULATED: tuple[str, ...] = tuple(
    dict.fromkeys((*_every_algorithm(), *_every_fabric(), *_options(), *_disturbed(), *_steps(), *_libraries()))
)
"""Commands without ``--json``, run from the root of the repository; several hundred."""

REFUSED: tuple[str, ...] = (
    "sim all-reduce -t fat-tree-17",
    "sim all-reduce -t no/such/file.yaml",
    "sim all-reduse -t star-8",
    "sim all-reduce -t star-8 -a rinng",
    "sim all-reduce -t star-8 -a no/such.txt",
    "sim all-reduce -t star-8 -b 3 -e 3",
    "sim all-reduce -t star-8 -b 1Q",
    "sim all-reduce -t star-8 -b 1M -e 1K",
    "sim all-reduce -t star-8 -b 1M -e 4M -f 1",
    "sim all-reduce -t star-8 -b 1M -e 4M -i 0",
    "sim all-reduce -t star-8 --ranks 9",
    "sim all-reduce -t star-8 --ranks -1",
    "sim all-reduce -t star-8 --slices 0",
    "sim all-reduce -t star-8 --channels 0",
    "sim all-reduce -t star-8 --routing fastest",
    "sim all-reduce -t star-8 --placement best",
    "sim all-reduce -t star-8 --dtype int3",
    "sim all-reduce -t star-8 --engine turbo",
    "sim all-reduce -t star-8 --detail everything",
    "sim all-reduce -t star-8 --jitter 2",
    "sim all-reduce -t star-8 --jitter nan",
    "sim all-reduce -t star-8 --root 9",
    "sim all-reduce -t star-8 --scenario no-such.yaml",
    "sim all-reduce -t star-8 --detail collective --jitter 0.1",
    "sim broadcast -t star-8 --root 8",
    "sim all-reduce -t dgx-h100-x2 -a nvls",
    "sim all-reduce -t star-8 -a hierarchical --group 3",
    "sim all-reduce -t fat-tree-16 -b 1M --scenario tests/golden/scenarios/no-such-link.yaml",
    "sim all-reduce -t fat-tree-16 -b 1M --scenario tests/golden/scenarios/cut-off.yaml",
    "sim all-reduce -t fat-tree-16 -b 64M --scenario tests/golden/scenarios/killed-rank.yaml",
    f"{_GPT} -t dgx-h100 --tp 3 --global-batch 16",
    f"{_GPT} -t dgx-h100 --tp 8 --global-batch 16 --zero 4",
    f"{_GPT} -t dgx-h100 --tp 8 --dp 2 --global-batch 16",
    f"{_GPT} -t dgx-h100 --tp 8 --global-batch 16 --schedule 2f2b",
    f"{_GPT} -t dgx-h100 --tp 8 --global-batch 16 --recompute some",
    f"{_GPT} -t dgx-h100 --tp 8 --global-batch 0",
    f"{_TRAIN} --model gpt5 -t dgx-h100 --tp 8 --global-batch 16",
    f"sim train --model gpt3-1.3b -t dgx-h100 --tp 8 --microbatch 1 --global-batch 16 --device a1000 {_EFFICIENCIES}",
    f"{_TRAIN} --model mixtral-8x7b -t dgx-h100 --tp 2 --ep 3 --dp 4 --global-batch 16",
    "topology show nowhere",
    "topology draw star-9 --out x.svg",
    "algorithm show nothing -c all-reduce --ranks 4",
    "algorithm verify docs/wrong-ring.txt",
    "validate no-such.jsonl",
    "diagnose no-such.jsonl -t star-8",
    "diagnose reports/diagnose/slow-link.jsonl",
    "diagnose reports/diagnose/slow-link.jsonl -t star-9",
    "diagnose reports/diagnose/slow-link.jsonl -t two-rail-8 --library gloo",
    "diagnose reports/loopback/runs.jsonl -t star-8",
    "diagnose docs/all-reduce-8.log -t dgx-h100",
    "diagnose docs/trace-of-4-ranks.json",
    "diagnose docs/trace-of-4-ranks.json -t star-8",
    "compare reports/loopback/runs.jsonl",
    "compare reports/loopback/runs.jsonl reports/loopback/runs.jsonl",
    "compare reports/loopback/runs.jsonl docs/all-reduce-8.log",
    "compare docs/all-reduce-8.log reports/diagnose/healthy.jsonl --across colour",
    "report no-such.jsonl",
)
"""Commands that are refused; what they say is kept."""
