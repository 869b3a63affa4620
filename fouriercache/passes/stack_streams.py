"""Follow token streams through all blocks, from where they leave the last to where they entered the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import fx

from fouriercache.passes.blocks import BlockGraph
from fouriercache.passes.match import piece_of
from fouriercache.passes.spine import Residual, Stream, Window, follow, to_add


def stack_streams(blocks: Sequence[BlockGraph], streams: Mapping[str, list[Stream]]) -> list[Stream]:
    """Follow each stream that leaves the last blocks for good up to where it entered the first.

    A stream goes on from block to block, also through concatenation (dual-stream blocks, then single-stream blocks).
    Where only a part of the last output is read and that part goes further up than the whole, it is the stream.
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
            cut = _part_read(stream.output, home)
            if cut is not None:
                part, on_its_way = _follow_all(cut, home)
                if part.entry is not None and len(part.residuals) > len(found.residuals):
                    found, visited = part, visited | on_its_way
            consumed |= visited
            if _is_final(stream.output, home):
                finals.append(found)
    return finals


def _part_read(output: fx.Node, home: Mapping[fx.Node, BlockGraph]) -> fx.Node | None:
    """The one part of a value that is read outside the blocks; None if all of it is, or several."""
    readers = [user for user in output.users if user not in home]
    return readers[0] if len(readers) == 1 and piece_of(readers[0]) is not None else None


def _follow_all(output: fx.Node, home: Mapping[fx.Node, BlockGraph]) -> tuple[Stream, set[fx.Node]]:
    """Follow one stream through all blocks; also return the block outputs on its way."""
    residuals: list[Residual] = []
    node, window = output, None
    visited = {output}
    while True:
        node, window = _to_home(node, window, home)
        if node not in home:
            return Stream(output, node if window is None else None, tuple(residuals)), visited
        part = follow(node, window, home[node])
        residuals += part.residuals
        visited.add(node)
        if part.entry is None:
            return Stream(output, None, tuple(residuals), part.broken), visited
        node, window = part.entry, part.window
        visited.add(node)


def _to_home(node: fx.Node, window: Window | None, home: Mapping[fx.Node, BlockGraph]) -> tuple[fx.Node, Window | None]:
    """Walk up outside the blocks, as far as a block's output; stay put when the walk meets none."""
    if node in home:
        return node, window
    outside = _Outside(home)
    above, seen = to_add(node, window, outside)
    return (above, seen) if above in home else (node, window)


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
