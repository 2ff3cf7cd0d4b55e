# SPDX-License-Identifier: Apache-2.0
"""A transformer by its shape, and how a rank executes it; what that costs is in :mod:`operators`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from commbench.errors import InputError, unknown
from commbench.workload.expert_load import EVEN, ExpertLoad
from commbench.workload.formats import Formats

__all__ = ["RECOMPUTE", "Execution", "LatentAttention", "Transformer", "split_layers", "stage_kinds"]

RECOMPUTE = ("none", "selective", "per-op", "full")
ATTENTION = ("causal", "full")
CONTEXT = ("gather", "all-to-all")


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentAttention:
    """Multi-head latent attention (MLA, arXiv 2405.04434, section 2.1): what its projections go through.

    Attributes:
        q_rank: width of the latent of queries; 0 where they come from the residual stream by one product.
        kv_rank: width of the latent of keys and values. rope_size: width of the rotated part of a head's query, and of
            the one key beside the latent that all heads share. value_size: width of a head of values.
    """

    q_rank: int
    kv_rank: int
    rope_size: int
    value_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Transformer:
    """A decoder-only transformer.

    Attributes:
        name: for people and records. source: where the shape was published.
        num_layers: transformer layers. hidden: width of the residual stream.
        num_heads: attention heads. num_kv_heads: heads of keys and values (GQA); equal to num_heads without GQA.
        head_size: width of a head, of its query and key. ffn: width inside the MLP, of each routed expert in a MoE.
        vocab: rows of the embedding. sequence: tokens of a training sequence.
        positions: learned position embeddings; 0 where positions are rotated in (RoPE).
        gated: whether the MLP has a gate beside its first product (SwiGLU).
        biases: whether products and norms have biases. tied: whether embedding and output share their weights.
        dropout: whether dropout is on in training.
        num_experts: routed experts of an MLP; 1 means dense. experts_per_token: how many a token visits.
        shared_ffn: width, all together, of shared experts, which every token visits; 0 where there are none.
        first_dense: layers at the beginning that have a dense MLP. sparse_step: of each so many layers the last has
            experts. dense_ffn: width inside the MLP of layers without; 0 where there are none.
        latent: of MLA; None where queries, keys and values come from the residual stream.

    Raises:
        InputError: a size below 1, key-value heads that do not divide the heads, numbers of experts or of latent
            attention that do not belong together.
    """

    name: str
    source: str
    num_layers: int
    hidden: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    ffn: int
    vocab: int
    sequence: int
    positions: int
    gated: bool
    biases: bool
    tied: bool
    dropout: bool
    num_experts: int = 1
    experts_per_token: int = 1
    shared_ffn: int = 0
    first_dense: int = 0
    sparse_step: int = 1
    dense_ffn: int = 0
    latent: LatentAttention | None = None

    def __post_init__(self) -> None:
        for key in ("num_layers", "hidden", "num_heads", "num_kv_heads", "head_size", "ffn", "vocab", "sequence"):
            if getattr(self, key) < 1:
                raise InputError(f"model {self.name}: {key} = {getattr(self, key)} must be at least 1")
        if self.num_heads % self.num_kv_heads:
            raise InputError(
                f"model {self.name}: num_kv_heads {self.num_kv_heads} must divide num_heads {self.num_heads}"
            )
        if not 1 <= self.experts_per_token <= self.num_experts:
            raise InputError(
                f"model {self.name}: experts_per_token {self.experts_per_token} must be 1..{self.num_experts}, "
                "the number of experts"
            )
        self._check_layers()
        if self.latent is not None:
            self._check_latent(self.latent)

    def _check_layers(self) -> None:
        """Raise unless dense layers and those with experts are told apart."""
        for key, least in (("shared_ffn", 0), ("first_dense", 0), ("sparse_step", 1), ("dense_ffn", 0)):
            if getattr(self, key) < least:
                raise InputError(f"model {self.name}: {key} = {getattr(self, key)} must be at least {least}")
        mixed = self.first_dense > 0 or self.sparse_step > 1
        if self.num_experts == 1 and (mixed or self.shared_ffn or self.dense_ffn):
            raise InputError(
                f"model {self.name}: first_dense, sparse_step, dense_ffn and shared_ffn are of a model with experts, "
                "but num_experts is 1"
            )
        if mixed != (self.dense_ffn > 0):
            raise InputError(
                f"model {self.name}: dense_ffn = {self.dense_ffn} must be the MLP width of the layers without experts, "
                f"and 0 where there are none (first_dense {self.first_dense}, sparse_step {self.sparse_step})"
            )
        if mixed and not any(map(self.is_sparse, range(self.num_layers))):
            raise InputError(
                f"model {self.name}: none of {self.num_layers} layers has experts (first_dense {self.first_dense}, "
                f"sparse_step {self.sparse_step}); give more layers"
            )

    def _check_latent(self, latent: LatentAttention) -> None:
        for key, least in (("q_rank", 0), ("kv_rank", 1), ("rope_size", 1), ("value_size", 1)):
            if getattr(latent, key) < least:
                raise InputError(f"model {self.name}: {key} = {getattr(latent, key)} must be at least {least}")
        if latent.rope_size >= self.head_size:
            raise InputError(
                f"model {self.name}: head_size {self.head_size} must be more than rope_size {latent.rope_size}, the "
                "rotated part of it"
            )
        if self.num_kv_heads != self.num_heads:
            raise InputError(
                f"model {self.name}: num_kv_heads {self.num_kv_heads} must be num_heads {self.num_heads}: latent "
                "attention makes keys and values of every head"
            )

    @property
    def value_size(self) -> int:
        """Width of a head of values."""
        return self.head_size if self.latent is None else self.latent.value_size

    @property
    def kinds(self) -> tuple[int, ...]:
        """The first layer of each way in which layers are built; more than one where some have experts and some not."""
        return tuple(dict.fromkeys(map(self.kind, range(self.num_layers))))

    def is_sparse(self, number: int) -> bool:
        """Whether a layer, 0 the first, has experts."""
        return self.num_experts > 1 and number >= self.first_dense and (number + 1) % self.sparse_step == 0

    def kind(self, number: int) -> int:
        """The first of the layers that are built like this one."""
        return next(one for one in range(number + 1) if self.is_sparse(one) == self.is_sparse(number))


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """How one rank runs a model; nothing of it is assumed, but degrees are 1 unless given.

    Attributes:
        micro_batch: sequences of a microbatch. sequence: tokens of a sequence.
        formats: what products compute in, and what is kept and sent.
        attention: "causal" counts and executes half of the scores, "full" all of them.
        flash: whether attention is one kernel that keeps no scores (FlashAttention, arXiv 2205.14135).
        recompute: "none"; "selective" runs the attention core again in backward; "full" runs each layer again
            (arXiv 2205.05198, section 5); "per-op" all but the core and every second product, whose outputs are kept
            (torchtitan, selective activation checkpointing by operators).
        tp, cp, ep: tensor-, context- and expert-parallel degree.
        sequence_parallel: whether norms, dropouts and residuals are split over tp too (arXiv 2205.05198, section 4.2).
        context: how context ranks come to all keys: "gather" has K and V of the whole sequence gathered, "all-to-all"
            gives each rank the whole sequence of its share of the heads and takes the results back (DeepSpeed-Ulysses,
            arXiv 2309.14509).
        keep_gathered: with sequence parallelism, whether the gathered inputs of column-parallel products are kept for
            backward; otherwise a rank keeps its 1/tp and gathers once more (section 4.2.2, what Megatron does).
        expert_load: how tokens spread over experts.
        keeps_casts: whether weights are turned into their format once a step, and not for every microbatch.
        summed_bytes: of each weight's gradient that its product reads and writes, where it adds it to those of the
            microbatches before; 0: it writes an activation's, and adding comes behind (step_costs).

    Raises:
        InputError: a number below 1 or an unknown word; names key, value and rule.
    """

    micro_batch: int
    sequence: int
    formats: Formats
    attention: str
    flash: bool
    recompute: str
    tp: int = 1
    cp: int = 1
    ep: int = 1
    sequence_parallel: bool = False
    context: str = "gather"
    keep_gathered: bool = False
    expert_load: ExpertLoad = EVEN
    keeps_casts: bool = False
    summed_bytes: int = 0

    def __post_init__(self) -> None:
        for key in ("micro_batch", "sequence", "tp", "cp", "ep"):
            if getattr(self, key) < 1:
                raise InputError(f"{key} = {getattr(self, key)} must be at least 1")
        for key, words in (("attention", ATTENTION), ("recompute", RECOMPUTE), ("context", CONTEXT)):
            if getattr(self, key) not in words:
                raise InputError(f"{key} = {getattr(self, key)!r} {unknown(str(getattr(self, key)), words)}")
        if self.sequence % self.cp:
            fits = -(-self.sequence // self.cp) * self.cp
            raise InputError(
                f"sequence {self.sequence} is not a multiple of cp {self.cp}; give --sequence {fits} or another --cp"
            )
        if self.sequence_parallel and self.sequence // self.cp % self.tp:
            fits = -(-self.sequence // (self.cp * self.tp)) * self.cp * self.tp
            raise InputError(
                f"sequence {self.sequence} / cp {self.cp} is not a multiple of tp {self.tp}, as sequence parallelism "
                f"needs; give --sequence {fits}, another --tp or no --sequence-parallel"
            )

    @property
    def element_bytes(self) -> int:
        """Bytes of an activation."""
        return self.formats.activations

    @property
    def tokens(self) -> int:
        """Tokens of a microbatch on a rank, where tensors are split over tp by width."""
        return self.micro_batch * self.sequence // self.cp

    @property
    def local_tokens(self) -> int:
        """Tokens of a microbatch on a rank between the tensor-parallel regions."""
        return self.tokens // self.tp if self.sequence_parallel else self.tokens

    @property
    def kept_tokens(self) -> int:
        """Tokens of a column-parallel product's input that a rank keeps for backward."""
        return self.tokens if self.keep_gathered else self.local_tokens

    @property
    def head_ranks(self) -> int:
        """Context ranks that share the heads of attention, and not its queries."""
        return self.cp if self.context == "all-to-all" else 1

    def kv_heads(self, model: Transformer) -> int:
        """Heads of keys and values on a rank: its share, or one that tp / num_kv_heads ranks have copies of."""
        return max(1, model.num_kv_heads // self.tp)

    def kv_copies(self, model: Transformer) -> int:
        """Neighbouring tensor ranks that hold the same heads of keys and values."""
        return max(1, self.tp // model.num_kv_heads)

    def check_model(self, model: Transformer) -> None:
        """Raise unless the model can be split in this way.

        Raises:
            InputError: heads, key-value heads, MLP width or experts that the degrees do not divide, or a sequence that
                is longer than learned positions; names both.
        """
        if not _splits(model, self.tp):
            raise InputError(self._unsplit(model))
        for key, each in (("num_heads", model.num_heads // self.tp), ("num_kv_heads", self.kv_heads(model))):
            if each % self.head_ranks:
                raise InputError(
                    f"model {model.name}: {key} {getattr(model, key)} leaves {each} on a rank of tp {self.tp}, which "
                    f"cp {self.cp} does not divide, as --context all-to-all needs; give --context gather or a smaller "
                    "--cp"
                )
        if 0 < model.positions < self.sequence:
            raise InputError(
                f"model {model.name}: a sequence of {self.sequence} is longer than its {model.positions} learned "
                f"positions; give --sequence {model.positions} or less, or --positions {self.sequence} for a model "
                "that has learned as many"
            )
        if model.num_experts == 1 and self.ep > 1:
            raise InputError(f"model {model.name}: it is dense, so there are no experts to spread over ep {self.ep}")
        if model.num_experts % self.ep:
            raise InputError(f"model {model.name}: {model.num_experts} experts are not divisible by ep {self.ep}")
        self.expert_load.check(model.name, model.num_experts, model.experts_per_token, self.ep)

    def _unsplit(self, model: Transformer) -> str:
        """Why the model cannot be split over tp, and over how many ranks it can."""
        found = (key for key in ("num_heads", *_WIDTHS) if getattr(model, key) % self.tp)
        key = next(found, "num_kv_heads")
        words = f"model {model.name}: {key} {getattr(model, key)} is not divisible by tp {self.tp}"
        if key == "num_kv_heads":
            words += ", nor can each be copied as often, for tp is no multiple of it"
        serves = [tp for tp in range(1, model.num_heads + 1) if _splits(model, tp)]
        return f"{words}; tp can be {', '.join(map(str, serves))}"


_WIDTHS = ("ffn", "dense_ffn", "shared_ffn")


def _splits(model: Transformer, tp: int) -> bool:
    """Whether heads, key-value heads (their share or copies of one) and MLP widths can be split over tp."""
    kv = model.num_kv_heads
    widths = not any(getattr(model, key) % tp for key in _WIDTHS)
    return not model.num_heads % tp and widths and (not kv % tp or not tp % kv)


def split_layers(model: Transformer, num_stages: int, layers_per_stage: tuple[int, ...] = ()) -> tuple[int, ...]:
    """Layers of every pipeline stage: equal ones, or those given.

    Args:
        model: what is split.
        num_stages: pipeline ranks times stages per rank.
        layers_per_stage: one number per stage; empty splits evenly.

    Raises:
        InputError: the layers do not divide evenly, or the given ones do not add up; names the numbers.
    """
    if not layers_per_stage:
        if num_stages < 1 or model.num_layers % num_stages:
            raise InputError(
                f"model {model.name}: {model.num_layers} layers cannot be split evenly over {num_stages} stages; "
                "give the layers of each stage (--layers)"
            )
        return (model.num_layers // num_stages,) * num_stages
    if len(layers_per_stage) != num_stages or sum(layers_per_stage) != model.num_layers or min(layers_per_stage) < 0:
        raise InputError(
            f"model {model.name}: layers per stage {layers_per_stage} must be {num_stages} numbers, none negative, "
            f"that add up to {model.num_layers}"
        )
    return layers_per_stage


@lru_cache(maxsize=4096)
def stage_kinds(model: Transformer, layers: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Of every stage's layers the first of the model's that is built like it: stages alike have the same.

    Args:
        model: what is split. layers: how many of every stage.
    """
    ends = [sum(layers[:stage]) for stage in range(len(layers) + 1)]
    return tuple(tuple(map(model.kind, range(*each))) for each in pairwise(ends))
