# SPDX-License-Identifier: Apache-2.0
"""What a training step is: the model, how it is split and executed, and on what; nothing of it is assumed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from commbench.errors import InputError
from commbench.topology.devices import Device
from commbench.workload.compute import Efficiency
from commbench.workload.cost import hardware_flops, layer_activation_bytes, model_flops
from commbench.workload.gradient_traffic import compressed, data_traffic, unreduced_gradient_bytes
from commbench.workload.groups import Degrees
from commbench.workload.memory import MemoryUse, Precision, host_memory_per_rank, memory_per_rank
from commbench.workload.offload import Offload
from commbench.workload.operators import layer_operators
from commbench.workload.pipeline.schedule import Pass, PipelineSchedule
from commbench.workload.stack_habits import PLAIN, Habits
from commbench.workload.stack_memory import StackMemory
from commbench.workload.step_costs import StackCosts
from commbench.workload.traffic import Traffic
from commbench.workload.transformer import Execution, Transformer, stage_kinds

__all__ = ["StepPlan", "num_microbatches"]


def num_microbatches(global_batch: int, micro_batch: int, dp: int) -> int:
    """Microbatches that every pipeline runs in a step.

    Raises:
        InputError: they are not whole; names the three numbers.
    """
    if min(global_batch, micro_batch, dp) < 1:
        raise InputError(f"--global-batch {global_batch}, --microbatch {micro_batch} and --dp {dp} must be at least 1")
    if global_batch % (micro_batch * dp):
        raise InputError(
            f"--global-batch {global_batch} is not a multiple of --microbatch {micro_batch} x --dp {dp} = "
            f"{micro_batch * dp}"
        )
    return global_batch // (micro_batch * dp)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """One optimizer step.

    Attributes:
        model: what is trained. run: how a rank executes it.
        degrees: how the ranks share the work. schedule: the pipeline schedule. layers: of every stage.
        device, efficiency: how long operators last (topology.devices, workload.compute), with the execution's formats.
        precision: bytes per parameter. zero: ZeRO stage. bucket_bytes: least size of a gradient bucket.
        overlap_tensor: whether tensor collectives run beside the gradients of their product (step_passes).
        scatter_gather: whether each tensor rank sends its share of a stage's output and they gather it behind
            (arXiv 2104.04473, section 4.1); without sequence parallelism every tensor rank has the whole.
        overlap_gradients: whether gradients are sent beside the last backward pass; otherwise behind it.
        overlap_parameters: whether parameters that ZeRO 1 and 2 gather arrive beside the first forward pass of each
            stage, which waits for its first bucket alone; otherwise behind the optimizer.
        habits: what the software does besides (workload.stack_habits).
        gradient_ratio: bytes of gradients that are sent, to those that there are; below 1 each is read and its
            compressed form written before, and the other way behind.
        stale_gradients: whether the optimizer takes the gradients of the step before, which are sent from the step's
            beginning on (asynchronous data parallelism, one step late).
        zero_group: data ranks over which ZeRO divides; 0: all. Where there are more, each group of so many neighbours
            holds everything, and what a rank holds is summed over the groups (hybrid sharding).
        stack: what the software adds (workload.step_costs); None: nothing, kernels follow each other at once.
        offload: what lies in host memory; None: nothing.
        launch_blocking: whether the host waits for every kernel before it launches the next (CUDA_LAUNCH_BLOCKING=1),
            so that its own time comes on top of the device's instead of being hidden behind it.
        stack_memory: what the software needs of memory beside (workload.stack_memory); None: nothing is known.
        remarks: what was assumed, for the reader of the result.

    Raises:
        InputError: degrees, stages or layers that do not belong together; names the numbers.
    """

    model: Transformer
    run: Execution
    degrees: Degrees
    schedule: PipelineSchedule
    layers: tuple[int, ...]
    device: Device
    efficiency: Efficiency
    precision: Precision
    zero: int
    bucket_bytes: int
    overlap_tensor: bool = False
    scatter_gather: bool = False
    overlap_gradients: bool = True
    overlap_parameters: bool = False
    habits: Habits = PLAIN
    gradient_ratio: float = 1.0
    stale_gradients: bool = False
    zero_group: int = 0
    offload: Offload | None = None
    stack: StackCosts | None = None
    launch_blocking: bool = False
    stack_memory: StackMemory | None = None
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.run.tp, self.run.cp, self.run.ep) != (self.degrees.tp, self.degrees.cp, self.degrees.ep):
            raise InputError("the execution's tp, cp and ep are not those of the degrees")
        if self.schedule.num_ranks != self.degrees.pp or self.schedule.num_stages != len(self.layers):
            raise InputError(
                f"pipeline schedule {self.schedule.name}: {self.schedule.num_ranks} ranks and "
                f"{self.schedule.num_stages} stages do not fit pp {self.degrees.pp} and layers of {len(self.layers)} "
                "stages"
            )
        if self.scatter_gather and self.run.sequence_parallel:
            raise InputError("--scatter-gather: with --sequence-parallel each rank has only its share to send anyway")
        if self.zero > 1 and not self.overlap_gradients:
            raise InputError(
                f"--no-overlap-gradients: with --zero {self.zero} those of each microbatch are sent beside what follows"
            )
        self._check_gradients()
        self._check_offload()
        if self.zero_group:
            self._check_zero_group()
        self.run.check_model(self.model)
        for dtype in (self.run.formats.products, self.run.formats.others):
            self.device.peak(dtype)

    def _check_gradients(self) -> None:
        if not 0 < self.gradient_ratio <= 1:
            raise InputError(f"--gradient-ratio {self.gradient_ratio:g}: must be above 0 and at most 1 (nothing saved)")
        option = f"--gradient-ratio {self.gradient_ratio:g}" if self.gradient_ratio < 1 else "--stale-gradients"
        if self.zero > 1 and (self.gradient_ratio < 1 or self.stale_gradients):
            raise InputError(f"{option}: goes with --zero 0 or 1, which send the gradients of a whole step at once")

    def _check_offload(self) -> None:
        if self.offload is None:
            return
        if self.offload.optimizer and not self.zero and self.degrees.dp * self.degrees.cp > 1:
            raise InputError(
                "--offload optimizer: goes with --zero 1, 2 or 3 where there are several data ranks, so that each "
                "updates its share"
            )
        if self.offload.activations and self.schedule.splits:
            raise InputError(
                f"--offload activations: goes with a schedule whose backward pass is whole, such as --schedule 1f1b; "
                f"{self.schedule.name} needs them for input and for weight gradients, at two times"
            )

    def _check_zero_group(self) -> None:
        group, ranks = self.zero_group, self.degrees.dp * self.degrees.cp
        if not 1 <= group <= ranks or ranks % group:
            raise InputError(f"--zero-group {group}: must divide the {ranks} data ranks (dp x cp)")
        if not self.zero or self.degrees.ep > 1:
            why = "--zero 1, 2 or 3" if not self.zero else "--ep 1: experts have data ranks of their own"
            raise InputError(f"--zero-group {group}: goes with {why}")

    @property
    def beside(self) -> frozenset[str]:
        """What runs beside products and cores (step_passes)."""
        tensor = {"gradients", *(("tensor",) if self.habits.products else ())} if self.overlap_tensor else set[str]()
        context = {"context"} if self.habits.context and self.run.context == "gather" else set[str]()
        return frozenset(tensor | context)

    @property
    def sender_waits(self) -> bool:
        """Whether a stage that sends waits until its output is there."""
        several = self.schedule.num_stages > self.schedule.num_ranks
        return self.stack is not None and not self.schedule.splits and not (several and self.habits.transfers)

    @property
    def zero_ranks(self) -> int:
        """Ranks over which dense weights, gradients or optimizer state are divided; 1 without ZeRO."""
        return (self.zero_group or self.degrees.dp * self.degrees.cp) if self.zero else 1

    @property
    def kinds(self) -> tuple[tuple[int, ...], ...]:
        """Of every stage's layers, the first of the model's that is built like it."""
        return stage_kinds(self.model, self.layers)

    @property
    def dtype(self) -> str:
        """Of the layers' products."""
        return self.run.formats.products

    @property
    def global_batch(self) -> int:
        """Sequences of the step."""
        return self.run.micro_batch * self.schedule.num_microbatches * self.degrees.dp

    @property
    def tokens(self) -> int:
        """Tokens of the step."""
        return self.global_batch * self.run.sequence

    @property
    def model_flops(self) -> int:
        """FLOP that the step needs (workload.cost.model_flops), attention counted as the execution says."""
        return model_flops(self.model, sequences=self.global_batch, attention=self.run.attention)

    @property
    def hardware_flops(self) -> int:
        """FLOP that are executed, those of recomputation among them; per rank of a pipeline, summed over all ranks."""
        microbatches = self.schedule.num_microbatches * self.degrees.num_ranks // self.degrees.pp
        load = replace(self.run.expert_load, imbalance=1.0)  # what the busiest rank has more, others have less
        return microbatches * hardware_flops(self.model, replace(self.run, expert_load=load))

    def memory(self) -> tuple[MemoryUse, ...]:
        """Memory of every pipeline position's ranks; of the workspace, what ZeRO 2 and 3 send is part."""
        unreduced: list[int] = []
        if self.zero >= 2:
            last = len(self.layers) - 1
            shapes = [(stage == 0, stage == last, kinds) for stage, kinds in enumerate(self.kinds)]
            first = {shape: shapes.index(shape) for shape in dict.fromkeys(shapes)}
            each = {shape: unreduced_gradient_bytes(self._sent(stage)) for shape, stage in first.items()}
            unreduced = [each[shape] for shape in shapes]
        return memory_per_rank(
            self.model, self.run, self.schedule, self.layers, self.degrees, self.precision, zero=self.zero,
            zero_group=self.zero_group, stack=self.stack_memory, unreduced=unreduced,
            offload=self.offload,
        )  # fmt: skip

    def host_memory(self) -> dict[str, int]:
        """Bytes in host memory of the rank that has most there, by kind."""
        if self.offload is None:
            return {}
        return host_memory_per_rank(
            self.model, self.run, self.schedule, self.layers, self.degrees, self.precision, self.offload,
            zero=self.zero, zero_group=self.zero_group,
        )  # fmt: skip

    def memory_margin(self) -> int:
        """Bytes that a step cannot have beside :meth:`memory`: none where the software's needs are known and part of
        it, the device's own margin where they are not.

        Raises:
            InputError: the device has none; says what to give.
        """
        return self.device.other("memory_margin", "or give --memory-margin") if self.stack_memory is None else 0

    def host_s(self, layers: int, calls: int, kind: Pass) -> float:
        """Seconds in which a host launches a pass of so many layers with so many collectives."""
        if self.stack is None:
            return 0.0
        launches = 2 if kind is Pass.BACKWARD and self.run.recompute == "full" else 1
        return layers * launches * self.stack.host_pass_s + calls * (self.degrees.tp - 1) * self.stack.host_call_s

    def adding_s(self, parameters: int) -> float:
        """Seconds in which one microbatch's gradients of so many parameters are added to those before."""
        if self.stack is None:
            return 0.0
        bandwidth = self.device.memory_bytes_per_s * self.efficiency.memory
        return self.stack.accumulation_bytes * parameters / bandwidth

    def optimizer_parts(self, dense: int, expert: int) -> tuple[tuple[str, float], ...]:
        """Kind and seconds of what the optimizer does for so many parameters, one after the other: it moves what it
        reads and writes, gradients are compressed and taken apart again, and weights that are kept in 8 bits are cast;
        or it does so on the host.
        """
        precision, sends = self.precision, 0.0
        held = dense / self.zero_ranks + expert / (self.degrees.edp if self.zero else 1)
        if self.gradient_ratio < 1:
            sends = 2 * precision.gradient_bytes * (1 + self.gradient_ratio) * (dense + expert)
        bandwidth = self.device.memory_bytes_per_s * self.efficiency.memory
        if self.run.keeps_casts:
            sends += self.run.formats.cast_bytes * (dense + expert)
        if self.offload is None or not self.offload.optimizer:
            per = precision.gradient_bytes + 2 * precision.optimizer_bytes + precision.parameter_bytes
            return (("optimizer", (per * held + sends) / bandwidth),)
        packed = (("optimizer", sends / bandwidth),) if sends else ()
        return (
            *packed, *self.offload.optimizer_parts(held, precision.gradient_bytes, precision.parameter_bytes)
        )  # fmt: skip

    def optimizer_s(self, dense: int, expert: int) -> float:
        """Seconds of :meth:`optimizer_parts`."""
        return sum(time_s for _, time_s in self.optimizer_parts(dense, expert))

    def moves_s(self, kinds: Sequence[int]) -> tuple[float, ...]:
        """Seconds in which what a layer keeps of a microbatch goes to host memory, or comes back, for each layer but
        the last of a stage with these kinds; empty where they stay.
        """
        if self.offload is None or not self.offload.activations:
            return ()
        layers = {kind: layer_operators(self.model, self.run, kind) for kind in dict.fromkeys(kinds)}
        sizes = {kind: layer_activation_bytes(self.model, self.run, layer) for kind, layer in layers.items()}
        return tuple(self.offload.move_s(sizes[kind]) for kind in kinds[:-1])

    def _sent(self, stage: int) -> tuple[Traffic, ...]:
        """Of :meth:`traffic`, what goes to other ranks."""
        return tuple(one for one in self.traffic(stage) if self.degrees.span(one.group)[0] > 1)

    def traffic(self, stage: int) -> tuple[Traffic, ...]:
        """What data parallelism sends of one stage in a step."""
        first, last = stage == 0, stage == len(self.layers) - 1
        found = data_traffic(
            self.model, self.run, self.kinds[stage], self.precision, first=first, last=last,
            bucket_bytes=self.bucket_bytes, zero=self.zero,
            zero_group=0 if self.zero_group == self.degrees.dp * self.degrees.cp else self.zero_group,
        )  # fmt: skip
        return compressed(found, self.gradient_ratio)
