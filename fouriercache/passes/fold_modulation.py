"""Put the last modulation, shift and scale, into the weight and bias of the layer behind it."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import torch
from torch import fx

from fouriercache.passes.base import Pass
from fouriercache.passes.edit import insert_before, replace_uses
from fouriercache.passes.hoist_conditioning import fixed_values
from fouriercache.program import NoMatch, Program, sizes_of, tensor_of

aten = torch.ops.aten
_TOKENS_PER_OUTPUT = 8
"""The least number of tokens for each output: what is kept for a step is a share of a feature, at most an eighth."""


@dataclass(frozen=True)
class _Modulated:
    """`linear(add(mul(stream, scale), shift), weight, bias)`."""

    stream: fx.Node
    scale: fx.Node
    shift: fx.Node
    dead: tuple[fx.Node, ...]


@dataclass(frozen=True)
class FoldModulation(Pass):
    """Write `linear(stream * scale + shift)` as one matrix product with a weight and a bias for each sample.

    `W (s x + t) + b = (W s) x + (W t + b)`: two calls on every token become two on the weight of the output layer,
    which depend on timestep and conditioning alone, so that they are hoisted.

    Before::

        main(%0: f32[2,24,8] x, %1: f32[2,1,8] scale, %2: f32[2,1,8] shift)
          %3: f32[2,24,8] = mul.Tensor(%0, %1)
          %4: f32[2,24,8] = add.Tensor(%3, %2)
          %5: f32[2,24,3] = linear.default(%4, @weight, @bias)
          return [%5]

    After::

        main(%0: f32[2,24,8] x, %1: f32[2,1,8] scale, %2: f32[2,1,8] shift)
          %3: f32[2,3,8] = mul.Tensor(%1, @weight)
          %4: f32[2,8,3] = transpose.int(%3, 1, 2)
          %5: f32[2,1,3] = linear.default(%2, @weight, @bias)
          %6: f32[2,24,3] = baddbmm.default(%5, %0, %4)
          return [%6]

    Requires: nothing.
    Keeps: 1. a shift or scale that depends on the latents or the cache.
           2. one that is not the same for all tokens of a sample.
           3. a layer that has an output for less than eight tokens, or a dynamic number of tokens: its weight is no
              small thing to change and to keep for every step and sample.
           4. what something else reads as well.
           5. a stream in another precision than its shift, scale or weight.
    Error: the rounding of one product and one sum, taken of the weight in place of the stream.
    """

    def rewrite(self, program: Program) -> int:
        fixed = fixed_values(program)
        count = 0
        for node in list(program.calls()):
            if node.target is not aten.linear.default:
                continue
            found = _match(node, fixed)
            if isinstance(found, _Modulated):
                _fold(node, found)
                count += 1
            elif found is not None:
                self.refuse(program, found)
        return count


def _match(linear: fx.Node, fixed: Container[fx.Node]) -> _Modulated | NoMatch | None:
    """What a linear layer reads, if it is modulated by what is fixed; None for any other layer."""
    added = linear.args[0]
    if not isinstance(added, fx.Node) or (parts := _parts(added, aten.add.Tensor, fixed)) is None:
        return None
    product, shift = parts
    if (parts := _parts(product, aten.mul.Tensor, fixed)) is None:
        return None
    stream, scale = parts
    if len(added.users) != 1 or len(product.users) != 1:
        return NoMatch("what is modulated is read elsewhere, too", linear.name)
    found = [tensor_of(node) for node in (stream, scale, shift, linear.args[1])]
    values = [value for value in found if value is not None]
    if len(values) < len(found) or len({value.dtype for value in values}) != 1:
        return NoMatch("shift, scale and weight are no tensors of the stream's precision", linear.name)
    tokens, *modulations, weight = map(sizes_of, values)
    rows = (tokens[0], 1, tokens[-1]) if len(tokens) == 3 else ()
    if any(sizes != rows for sizes in modulations) or len(weight) != 2:
        return NoMatch("shift and scale are not one row for each sample", linear.name)
    count, outputs = tokens[1], weight[0]
    if not isinstance(count, int) or not isinstance(outputs, int):
        return NoMatch("the number of tokens is dynamic", linear.name)
    if count < _TOKENS_PER_OUTPUT * outputs:
        return NoMatch("the outputs are many, beside the tokens", linear.name)
    return _Modulated(stream, scale, shift, (added, product))


def _parts(node: fx.Node, target: object, fixed: Container[fx.Node]) -> tuple[fx.Node, fx.Node] | None:
    """The operand of a sum or product that moves, and the one that is fixed."""
    if node.target is not target or node.kwargs:
        return None
    first, second = node.args
    if not isinstance(first, fx.Node) or not isinstance(second, fx.Node) or (first in fixed) == (second in fixed):
        return None
    return (second, first) if first in fixed else (first, second)


def _fold(linear: fx.Node, found: _Modulated) -> None:
    weight, bias = linear.args[1], linear.args[2] if len(linear.args) > 2 else None
    scaled = insert_before(linear, aten.mul.Tensor, found.scale, weight)
    matrix = insert_before(linear, aten.transpose.int, scaled, 1, 2)
    start = insert_before(linear, aten.linear.default, found.shift, weight, bias)
    replace_uses(linear, insert_before(linear, aten.baddbmm.default, start, found.stream, matrix))
    for dead in (linear, *found.dead):
        dead.graph.erase_node(dead)
