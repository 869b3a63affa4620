"""Which nodes belong to which repeated block, read from `nn_module_stack`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
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
    return _label(program, _indexed)


def label_named_blocks(program: Program) -> list[BlockGraph]:
    """The same for a model without a list: its blocks are attributes of one module, several of one class."""
    twins: dict[tuple[str, str], set[str]] = {}
    for node in program.calls():
        for path, kind in _modules_of(node):
            twins.setdefault((path.rpartition(".")[0], kind), set()).add(path)
    repeated = {key: sorted(paths) for key, paths in twins.items() if len(paths) > 1}

    def named(path: str, kind: str) -> tuple[str, int] | None:
        parent = path.rpartition(".")[0]
        return (parent, repeated[parent, kind].index(path)) if path and (parent, kind) in repeated else None

    return _label(program, named)


def _label(program: Program, place: Callable[[str, str], tuple[str, int] | None]) -> list[BlockGraph]:
    """Take the outermost module on each call's stack that has a `place` (group, index) for its block."""
    members: dict[str, list[fx.Node]] = {}
    facts: dict[str, Block] = {}
    for node in program.calls():
        node.meta.pop("block", None)
        for path, kind in _modules_of(node):
            found = place(path, kind)
            if found is not None:
                members.setdefault(path, []).append(node)
                facts[path] = Block(path, *found, kind)
                node.meta["block"] = path
                break
    moving = descendants(program.inputs_of("sample"))
    return [BlockGraph(facts[path], nodes, moving) for path, nodes in members.items()]


def _indexed(path: str, _: str) -> tuple[str, int] | None:
    parts = _INDEXED.match(path)
    return (parts["group"], int(parts["index"])) if parts else None


def _modules_of(node: fx.Node) -> Iterator[tuple[str, str]]:
    """Path and class name of the modules on the node's stack, the outermost first."""
    for path, kind in node.meta.get("nn_module_stack", {}).values():
        # A module that is called twice carries "@1" on the second call.
        yield re.sub(r"@\d+$", "", path), kind if isinstance(kind, str) else kind.__name__
