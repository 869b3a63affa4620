"""Which nodes belong to which repeated block, read from `nn_module_stack`."""

from __future__ import annotations

import re
from functools import cached_property

from torch import fx

from fouriercache.passes.match import ancestors, descendants, strip_stream
from fouriercache.program import Block, Program, tensor_of

_INDEXED = re.compile(r"^(?P<group>.+)\.(?P<index>\d+)$")


class BlockGraph:
    """The nodes of one block, and the questions the site finder asks of them.

    Attributes:
        nodes: the block's calls, in order. order: their positions.
    """

    def __init__(self, facts: Block, nodes: list[fx.Node], moving: set[fx.Node]) -> None:
        self.facts = facts
        self._moving = moving
        self.nodes = dict.fromkeys(nodes)
        self.order = {node: position for position, node in enumerate(nodes)}
        self._cones: dict[fx.Node, set[fx.Node]] = {}

    @property
    def path(self) -> str:
        return self.facts.path

    def cone(self, node: fx.Node) -> set[fx.Node]:
        """What `node` is computed from, followed through nodes of this block alone."""
        if node not in self._cones:
            self._cones[node] = ancestors(node, within=self.nodes)
        return self._cones[node]

    def depends(self, node: fx.Node, root: fx.Node) -> bool:
        """Whether `node` is `root` or computed from it by nodes of this block."""
        return node is root or root in self.cone(node)

    def moves(self, node: fx.Node) -> bool:
        """Whether `node` depends on the sample."""
        return node in self._moving

    @cached_property
    def outputs(self) -> list[fx.Node]:
        """Token streams that leave the block: tensors of two or more dimensions that other nodes read.

        A stream depends on the sample; what does not (a mask, an embedding of the timestep) is conditioning.
        """
        found = []
        for node in self.nodes:
            tensor = tensor_of(node)
            leaves = any(user not in self.nodes for user in node.users)
            if (
                leaves
                and node in self._moving
                and tensor is not None
                and tensor.ndim >= 2
                and tensor.is_floating_point()
            ):
                found.append(node)
        # A cast or view of a stream that leaves beside the stream itself is the same stream.
        roots = {strip_stream(node, self.nodes): node for node in found}
        return [node for node in found if roots[strip_stream(node, self.nodes)] is node]


def label_blocks(program: Program) -> list[BlockGraph]:
    """Group the calls by block, write each block's path to `meta["block"]`, and return the blocks in order."""
    members: dict[str, list[fx.Node]] = {}
    kinds: dict[str, str] = {}
    for node in program.calls():
        found = _block_of(node)
        if found is not None:
            path, kind = found
            members.setdefault(path, []).append(node)
            kinds[path] = kind
            node.meta["block"] = path
    moving = descendants(program.inputs_of("sample"))
    blocks = []
    for path, nodes in members.items():
        parts = _INDEXED.match(path)
        assert parts is not None
        blocks.append(BlockGraph(Block(path, parts["group"], int(parts["index"]), kinds[path]), nodes, moving))
    return blocks


def _block_of(node: fx.Node) -> tuple[str, str] | None:
    """The outermost module on the node's stack whose own name is an index: its path and class name."""
    for path, kind in node.meta.get("nn_module_stack", {}).values():
        # A module that is called twice carries "@1" on the second call.
        clean = re.sub(r"@\d+$", "", path)
        if _INDEXED.match(clean):
            return clean, kind if isinstance(kind, str) else kind.__name__
    return None
