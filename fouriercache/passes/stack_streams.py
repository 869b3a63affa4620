"""Follow token streams through all blocks, from where they leave the last to where they entered the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import fx

from fouriercache.passes.blocks import BlockGraph
from fouriercache.passes.match import ancestors, descendants, is_permuted, is_view, piece_of
from fouriercache.passes.spine import Residual, Stream, Window, follow, to_add
from fouriercache.program import tensor_of


def stack_streams(blocks: Sequence[BlockGraph], streams: Mapping[str, list[Stream]]) -> list[Stream]:
    """Follow each stream that leaves the last blocks for good up to where it entered the first.

    A stream goes on from block to block, also through concatenation (dual-stream blocks, then single-stream blocks).
    Where only a part of the last output is read and that part goes further up than the whole, it is the stream.
    So is the whole, where it goes further up through the addition of what does not depend on the sample (the positions
    that a video's second block adds) and has, behind views of the last output, the layout that it entered with.
    Streams that only feed other blocks' inputs on the side (a refined text) end where they are read, and are left out
    unless they are on the spine of a final one.
    """
    home = {node: block for block in blocks for node in block.nodes}
    finals: list[Stream] = []
    consumed: set[fx.Node] = set()
    for block in reversed(blocks):
        for stream in streams[block.path]:
            if stream.output in consumed:
                continue
            found, visited = _follow_all(stream.output, home)
            others = [(stream.output, True)]
            cut = _part_read(stream.output, home)
            if cut is not None:
                others.append((cut, False))
            for output, is_shifted in others:
                other, on_its_way = _follow_all(output, home, is_shifted=is_shifted)
                other = _laid_out(other, home) if is_shifted else other
                if other.entry is not None and len(other.residuals) > len(found.residuals):
                    found, visited = other, visited | on_its_way
            consumed |= visited
            if _is_final(stream.output, home):
                finals.append(found)
    return finals


def _part_read(output: fx.Node, home: Mapping[fx.Node, BlockGraph]) -> fx.Node | None:
    """The one part of a value that is read outside the blocks; None if all of it is, or several."""
    readers = [user for user in output.users if user not in home]
    return readers[0] if len(readers) == 1 and piece_of(readers[0]) is not None else None


def _laid_out(stream: Stream, home: Mapping[fx.Node, BlockGraph]) -> Stream:
    """The same stream, taken behind the views outside the blocks that give it its entry's shape; else without entry.

    Blocks that attend over frames and over places of a video see its tokens in turn along either. Where there are as
    many of both, shapes do not tell the two layouts apart: such a stream has no entry either.
    """
    node, entry = stream.output, stream.entry
    if entry is None or (_same_shape(node, entry) and _is_turned(entry, node, home)):
        return replace(stream, entry=None)
    while not _same_shape(node, entry):
        readers = [user for user in node.users if user.target is not torch.ops.aten.sym_size.int]
        if len(readers) != 1 or readers[0] in home or not is_view(readers[0]) or readers[0].args[0] is not node:
            return replace(stream, entry=None)
        node = readers[0]
    return replace(stream, output=node)


def _is_turned(entry: fx.Node, output: fx.Node, home: Mapping[fx.Node, BlockGraph]) -> bool:
    """Whether dimensions change places between two values, outside the blocks."""
    between = descendants([entry]) & ancestors(output)
    return any(is_permuted(node) and node not in home for node in between)


def _same_shape(one: fx.Node, other: fx.Node) -> bool:
    have, want = tensor_of(one), tensor_of(other)
    return have is not None and want is not None and str(have.shape) == str(want.shape)


def _follow_all(
    output: fx.Node, home: Mapping[fx.Node, BlockGraph], *, is_shifted: bool = False
) -> tuple[Stream, set[fx.Node]]:
    """Follow one stream through all blocks; also return the block outputs on its way.

    Args:
        is_shifted: whether between blocks something may be added to it that does not depend on the sample.
    """
    residuals: list[Residual] = []
    node, window = output, None
    visited = {output}
    while True:
        node, window = _to_home(node, window, home, is_shifted=is_shifted)
        if node not in home:
            return Stream(output, node if window is None else None, tuple(residuals)), visited
        part = follow(node, window, home[node])
        residuals += part.residuals
        visited.add(node)
        if part.entry is None:
            return Stream(output, None, tuple(residuals), part.broken), visited
        node, window = part.entry, part.window
        visited.add(node)


def _to_home(
    node: fx.Node, window: Window | None, home: Mapping[fx.Node, BlockGraph], *, is_shifted: bool
) -> tuple[fx.Node, Window | None]:
    """Walk up outside the blocks, as far as a block's output; stay put when the walk meets none."""
    if node in home:
        return node, window
    outside = _Outside(home)
    above, seen = to_add(node, window, outside)
    shifted = _unshifted(above, home) if is_shifted and seen is None else None
    while shifted is not None:
        above, seen = to_add(shifted, None, outside)
        shifted = _unshifted(above, home) if seen is None else None
    return (above, seen) if above in home else (node, window)


def _unshifted(add: fx.Node, home: Mapping[fx.Node, BlockGraph]) -> fx.Node | None:
    """The stream in a sum with something that does not depend on the sample, outside the blocks."""
    if add in home or add.target is not torch.ops.aten.add.Tensor:
        return None
    moves = next(iter(home.values())).moves
    moving = [node for node in add.args if isinstance(node, fx.Node) and moves(node)]
    return moving[0] if len(moving) == 1 and _same_shape(moving[0], add) else None


@dataclass(frozen=True)
class _Outside:
    """The nodes that belong to no block."""

    home: Mapping[fx.Node, BlockGraph]

    def __contains__(self, node: object) -> bool:
        return node not in self.home


def _is_final(output: fx.Node, home: Mapping[fx.Node, BlockGraph]) -> bool:
    """Whether what reads `output` outside the blocks goes to a result and never back into a block."""
    todo = [user for user in output.users if user not in home]
    if not todo or any(user in home for user in output.users):
        return False
    seen: set[fx.Node] = set()
    while todo:
        node = todo.pop()
        if node in home:
            return False
        if node not in seen:
            seen.add(node)
            todo.extend(node.users)
    return True
