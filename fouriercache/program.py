"""`Program`: an FX graph with named roles for its inputs and outputs, the sites found in it, and a stable text.

A program owns its graph and shares its weights: names that `get_attr` nodes use stand for tensors of the user's model,
which are looked up there. Passes edit `graph` in place; nothing else in the package does.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, fx, nn

from fouriercache.checks import check_whole
from fouriercache.errors import VerifyError
from fouriercache.live_weights import with_weights
from fouriercache.text import program_text

Role = Literal[
    "sample", "timestep", "conditioning", "refresh", "coefficients", "slot", "state", "control", "hoisted", "ahead"
]
OutputRole = Literal["result", "slot", "state", "distance", "hoisted", "ahead"]
SiteKind = Literal["attention", "mlp", "block", "stack"]


@dataclass(frozen=True)
class Input:
    """One graph input: `name` is its placeholder, `role` says who feeds it.

    A "slot" comes from the ring of kept features. A "state" is what the output of the same name returned in this
    pass's last step, whatever its mode. A "control" is computed by the runtime from the method and the step.
    """

    name: str
    role: Role


@dataclass(frozen=True)
class Output:
    """One graph output, in order: results, then slots, then states, then a distance.

    A "slot" is what is kept of a site's new value, the column that slots read; it is called like the site, with the
    form behind the name if it is encoded. A "state" is the next step's input of the same name. A "distance" is what an
    adaptive schedule decides by: how far the indicator moved, and how large it was.
    """

    name: str
    role: OutputRole


@dataclass(frozen=True)
class Slot:
    """What an input of role "slot" holds: what the computed step `age` places back returned as the output `column`.

    Age 0 is the newest computed step. A site has one column for each tensor that is kept of its value.
    """

    site: str
    age: int
    column: str


@dataclass(frozen=True)
class Block:
    """One repeated block: its module path, the list it stands in, and its class."""

    path: str
    group: str
    index: int
    kind: str


@dataclass(frozen=True)
class Site:
    """A value that a cache can replace.

    For a branch, `value` is the branch output before its gate; for a block or the stack it is the output whose
    difference to `spine` is kept. Names are names of graph nodes.
    """

    name: str
    kind: SiteKind
    block: str
    value: str
    spine: str
    gate: str | None
    shape: tuple[int | str, ...]
    dtype: torch.dtype

    @property
    def gated(self) -> bool:
        """Whether the branch output is multiplied by a gate before it is added."""
        return self.gate is not None

    @property
    def is_residual(self) -> bool:
        """Whether what is kept is the difference of `value` and `spine`."""
        return self.kind in ("block", "stack")


@dataclass(frozen=True)
class TokenGrid:
    """The token grid of the sample: t * h * w tokens in row-major order, the first at index `start`.

    Raises MethodError when a size is no whole number of at least 1, or `start` none of at least 0.
    """

    t: int
    h: int
    w: int
    start: int = 0

    def __post_init__(self) -> None:
        for name, least in {"t": 1, "h": 1, "w": 1, "start": 0}.items():
            advice = "A grid has t frames of h rows with w tokens each: TokenGrid(1, 16, 16)."
            check_whole("TokenGrid", name, getattr(self, name), least=least, advice=advice)

    @property
    def tokens(self) -> int:
        return self.t * self.h * self.w


@dataclass(frozen=True)
class NoMatch:
    """Why a rewrite did not apply, and the node it stopped at."""

    reason: str
    node: str = ""


@dataclass
class Program:
    """An FX graph and what is known of it.

    Attributes:
        graph: ATen calls, `fouriercache` calls, placeholders and `get_attr`; every call has `meta["val"]`.
        attributes: tensors and subgraphs that `get_attr` nodes name; of a weight of `owner`, its form alone.
        sources: `get_attr` name -> qualified name in the user's model; constants of the capture are absent.
        inputs, outputs: roles, in the graph's order.
        blocks: repeated blocks in order of execution.
        found: every site a method could use, by site question ("branch", "block", "stack").
        sites: the sites that hold a cache, in the order of their slots.
        history: K, the computed steps that are kept; 0 before a cache is inserted.
        slots: what each input of role "slot" holds, by the input's name.
        refused: pass name -> why it left something alone.
        owner: the model, if weights are looked up there.
    """

    graph: fx.Graph
    attributes: dict[str, Any]
    sources: dict[str, str]
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    blocks: tuple[Block, ...] = ()
    found: dict[str, tuple[Site, ...]] = field(default_factory=dict)
    sites: tuple[Site, ...] = ()
    grid: TokenGrid | None = None
    history: int = 0
    slots: dict[str, Slot] = field(default_factory=dict)
    refused: dict[str, list[NoMatch]] = field(default_factory=dict)
    owner: nn.Module | None = None

    def clone(self) -> Program:
        """Copy the graph and the facts; share the tensors."""
        graph = fx.Graph()
        mapping: dict[fx.Node, fx.Node] = {}
        result = graph.graph_copy(self.graph, mapping)
        graph.output(result)
        mine, other = self.output_node, next(iter(reversed(graph.nodes)))
        other.meta = copy.copy(mine.meta)
        for old, new in mapping.items():
            if old.name != new.name:
                raise VerifyError(f"clone renamed node {old.name} to {new.name}")
        return replace(
            self,
            graph=graph,
            attributes=dict(self.attributes),
            sources=dict(self.sources),
            found=dict(self.found),
            slots=dict(self.slots),
            refused={name: list(reasons) for name, reasons in self.refused.items()},
        )

    @property
    def output_node(self) -> fx.Node:
        return self.graph.output_node()

    @property
    def results(self) -> tuple[fx.Node, ...]:
        """The nodes the graph returns, in order."""
        return cast(tuple[fx.Node, ...], tuple(self.output_node.args[0]))  # type: ignore[arg-type]

    @property
    def placeholders(self) -> list[fx.Node]:
        return list(self.graph.find_nodes(op="placeholder"))

    def calls(self) -> Iterator[fx.Node]:
        """Every `call_function` node, in order."""
        return (node for node in self.graph.nodes if node.op == "call_function")

    def graphs(self) -> Iterator[fx.Graph]:
        """The main graph, then the bodies of its control flow, by name."""
        yield self.graph
        for _, value in sorted(self.attributes.items()):
            if isinstance(value, fx.GraphModule):
                yield value.graph

    def named(self) -> Mapping[str, fx.Node]:
        """Nodes by name."""
        return {node.name: node for node in self.graph.nodes}

    def inputs_of(self, *roles: Role) -> list[fx.Node]:
        """Placeholders that have one of `roles`, in order."""
        return [node for node, given in zip(self.placeholders, self.inputs, strict=True) if given.role in roles]

    def columns(self, site: Site) -> tuple[str, ...]:
        """Names of the outputs that are kept of a site's value, in the order of its slots."""
        return tuple(dict.fromkeys(slot.column for slot in self.slots.values() if slot.site == site.name))

    def set_inputs(self, inputs: Iterable[Input]) -> None:
        self.inputs = tuple(inputs)

    def set_outputs(self, nodes: Sequence[fx.Node], outputs: Iterable[Output]) -> None:
        """Replace what the graph returns, and the roles with it."""
        self.output_node.args = (tuple(nodes),)
        self.outputs = tuple(outputs)

    def refuse(self, name: str, reason: NoMatch) -> None:
        """Record once that the pass called `name` left something alone."""
        reasons = self.refused.setdefault(name, [])
        if reason not in reasons:
            reasons.append(reason)

    def text(self) -> str:
        """Stable text: the same program prints the same on every run and torch release that captures it alike."""
        return program_text(self)

    def module(self) -> fx.GraphModule:
        """Build an executable module: flat positional inputs, a flat tuple out; weights are shared, not copied."""
        values = with_weights(self.owner, self.attributes, self.sources)
        root = {str(node.target): values[str(node.target)] for node in self.graph.find_nodes(op="get_attr")}
        return fx.GraphModule(root, self.clone().graph, class_name="Step")

    def verify(self) -> None:
        """Check what must hold between passes.

        Raises:
            VerifyError: the graph fails FX's own lint, a call lacks `meta["val"]`, a `get_attr` names nothing, or the
                roles do not match the placeholders and results.
        """
        for graph in self.graphs():
            _verify_graph(graph)
        for node in self.graph.find_nodes(op="get_attr"):
            if str(node.target) not in self.attributes:
                raise VerifyError(f"{node.name} reads {node.target}, which is not in the program's attributes")
        names = [node.name for node in self.placeholders]
        if names != [given.name for given in self.inputs]:
            raise VerifyError(f"placeholders {names} do not match the declared inputs {self.inputs}")
        if len(self.results) != len(self.outputs):
            raise VerifyError(f"the graph returns {len(self.results)} values, {len(self.outputs)} are declared")


def _verify_graph(graph: fx.Graph) -> None:
    try:
        graph.lint()
    except RuntimeError as error:
        raise VerifyError(f"graph lint failed: {error}") from error
    for node in graph.nodes:
        if node.op == "call_function" and "val" not in node.meta:
            raise VerifyError(f"{node.name} = {node.target} has no meta['val']; build nodes with passes/edit.py")
        if node.op in ("call_module", "call_method"):
            raise VerifyError(f"{node.name} is a {node.op}; a program holds call_function nodes alone")


def value_of(node: fx.Node) -> Any:
    """The fake value a node has: a FakeTensor, a SymInt, or a tuple of them."""
    return node.meta.get("val")


def tensor_of(node: object) -> Tensor | None:
    """The fake tensor of a node, or None when it is not a node or not one tensor."""
    if not isinstance(node, fx.Node):
        return None
    found = value_of(node)
    return found if isinstance(found, Tensor) else None


def sizes_of(tensor: Tensor) -> tuple[int | str, ...]:
    """The sizes of a fake tensor: numbers, and the names of dynamic ones."""
    return tuple(_plain(size) for size in cast(Sequence[Any], tensor.shape))


def _plain(size: Any) -> int | str:
    if isinstance(size, int):
        return size
    fixed: int | None = size.node.maybe_as_int()  # a symbol that tracing has fixed stays a SymInt
    return str(size) if fixed is None else fixed
