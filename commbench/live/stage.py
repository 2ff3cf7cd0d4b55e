# SPDX-License-Identifier: Apache-2.0
"""The stages of a live pipeline: real products on real tensors, whose every value is known beforehand.

A stage is ``layers`` products ``y = x W``. Every W is a signed permutation: forward moves and flips the columns of the
activation, backward moves them back, and a weight gradient is a sum of products of small whole numbers, so all of it
is exact in float32 and any order of adding gives the same. The gradient of a stage's weights depends on every
activation and every gradient that has reached it: a microbatch that is lost, doubled, or paired with another one's
gradient shows there. :func:`count_wrong` holds it against plain indexing in float64, which takes no product from here.
"""

from dataclasses import dataclass

import torch

from commbench.live.job import LARGEST_INPUT

__all__ = ["LiveStage", "StageShape", "count_wrong", "inputs", "rehearse", "targets", "weights_of"]

_WEIGHTS, _INPUTS, _TARGETS = range(3)  # what a seed is for


@dataclass(frozen=True, slots=True)
class StageShape:
    """An activation is tokens x hidden; every stage has ``layers`` products of hidden x hidden."""

    tokens: int
    hidden: int
    layers: int


def _generator(purpose: int, number: int) -> torch.Generator:
    """The same numbers on every rank."""
    generator = torch.Generator()
    generator.manual_seed(1_000_003 * purpose + number)
    return generator


def _signed_permutation(shape: StageShape, stage: int, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(place, sign): column i goes to column place[i], times sign[i]."""
    generator = _generator(_WEIGHTS, stage * shape.layers + layer)
    place = torch.randperm(shape.hidden, generator=generator)
    return place, 2 * torch.randint(0, 2, (shape.hidden,), generator=generator) - 1


def weights_of(shape: StageShape, stage: int) -> list[torch.Tensor]:
    """The weights of a stage, hidden x hidden each."""
    made = []
    for layer in range(shape.layers):
        place, sign = _signed_permutation(shape, stage, layer)
        weight = torch.zeros(shape.hidden, shape.hidden)
        weight[torch.arange(shape.hidden), place] = sign.to(weight.dtype)
        made.append(weight)
    return made


def _whole_numbers(purpose: int, shape: StageShape, microbatch: int) -> torch.Tensor:
    generator = _generator(purpose, microbatch)
    size = (shape.tokens, shape.hidden)
    return torch.randint(-LARGEST_INPUT, LARGEST_INPUT + 1, size, generator=generator).to(torch.float32)


def inputs(shape: StageShape, microbatch: int) -> torch.Tensor:
    """What the first stage reads."""
    return _whole_numbers(_INPUTS, shape, microbatch)


def targets(shape: StageShape, microbatch: int) -> torch.Tensor:
    """The gradient of the loss (sum of output x target) with respect to the last stage's output."""
    return _whole_numbers(_TARGETS, shape, microbatch)


class LiveStage:
    """One stage and what it holds between passes.

    Args:
        shape: of activation and weights.
        number: of the stage.
        device: where it stands.

    Attributes:
        weights: hidden x hidden each. gradients: of the weights, summed over microbatches.
    """

    def __init__(self, shape: StageShape, number: int, device: torch.device) -> None:
        self.number = number
        self.weights = [weight.to(device) for weight in weights_of(shape, number)]
        self.gradients = [torch.zeros_like(weight) for weight in self.weights]
        self._read: dict[int, list[torch.Tensor]] = {}  # per microbatch, input of each product
        self._came: dict[int, list[torch.Tensor]] = {}  # per microbatch, gradient of each product's output

    def reset(self) -> None:
        """Gradients back to zero, nothing held."""
        for gradient in self.gradients:
            gradient.zero_()
        self._read.clear()
        self._came.clear()

    def forward(self, microbatch: int, x: torch.Tensor) -> torch.Tensor:
        """F: the stage's output."""
        read = self._read[microbatch] = []
        for weight in self.weights:
            read.append(x)
            x = x @ weight
        return x

    def backward_input(self, microbatch: int, gradient: torch.Tensor) -> torch.Tensor:
        """I: gradient of the stage's input."""
        came = self._came[microbatch] = []
        for weight in reversed(self.weights):
            came.append(gradient)
            gradient = gradient @ weight.T
        return gradient

    def backward_weight(self, microbatch: int) -> None:
        """W: add to the gradients of the weights, and let go of the microbatch."""
        read, came = self._read.pop(microbatch), self._came.pop(microbatch)
        for sum_, x, gradient in zip(self.gradients, read, reversed(came), strict=True):
            sum_.addmm_(x.T, gradient)


def rehearse(shape: StageShape, device: torch.device) -> None:
    """Every pass once. A device loads its code when it is first used, and waits for all that is enqueued before it
    does: for a message too whose sender waits for this very device."""
    stage, zeros = LiveStage(shape, 0, device), torch.zeros(shape.tokens, shape.hidden, device=device)
    stage.forward(0, zeros)
    stage.backward_input(0, zeros)
    stage.backward_weight(0)


def _through(shape: StageShape, x: torch.Tensor, stage: int, layer: int) -> torch.Tensor:
    """A product by indexing, without a product."""
    place, sign = _signed_permutation(shape, stage, layer)
    y = torch.empty_like(x)
    y[:, place] = x * sign
    return y


def _back(shape: StageShape, gradient: torch.Tensor, stage: int, layer: int) -> torch.Tensor:
    place, sign = _signed_permutation(shape, stage, layer)
    return gradient[:, place] * sign


def expected_gradients(shape: StageShape, stage: int, num_stages: int, microbatches: int) -> list[torch.Tensor]:
    """The gradients of a stage's weights after a step, in float64."""
    sums = [torch.zeros(shape.hidden, shape.hidden, dtype=torch.float64) for _ in range(shape.layers)]
    for microbatch in range(microbatches):
        x, gradient = inputs(shape, microbatch).double(), targets(shape, microbatch).double()
        for before in range(stage):
            for layer in range(shape.layers):
                x = _through(shape, x, before, layer)
        for behind in reversed(range(stage + 1, num_stages)):
            for layer in reversed(range(shape.layers)):
                gradient = _back(shape, gradient, behind, layer)
        read = []
        for layer in range(shape.layers):
            read.append(x)
            x = _through(shape, x, stage, layer)
        for layer in reversed(range(shape.layers)):
            sums[layer] += read[layer].T @ gradient
            gradient = _back(shape, gradient, stage, layer)
    return sums


def count_wrong(
    gradients: list[torch.Tensor], shape: StageShape, stage: int, *, num_stages: int, microbatches: int
) -> int:
    """Elements of a stage's weight gradients that are not exactly what they must be."""
    expected = expected_gradients(shape, stage, num_stages, microbatches)
    pairs = zip(gradients, expected, strict=True)
    return sum(int((found.detach().cpu().double() != right).sum()) for found, right in pairs)
