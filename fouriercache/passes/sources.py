"""Find the values that an adaptive schedule can look at, with no knowledge of any model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import fx

from fouriercache.indicators.base import Source
from fouriercache.passes.match import ancestors, descendants, is_attention, is_heavy, strip_stream
from fouriercache.program import NoMatch, Program, Site

aten = torch.ops.aten


def find_source(program: Program, source: Source) -> fx.Node | NoMatch:
    """Return the value that an indicator is made of, or why it cannot be told.

    Needs the sites. Returns NoMatch, too, when the program no longer computes the value.
    """
    return _FINDERS[source](program)


def _find_latents(program: Program) -> fx.Node | NoMatch:
    samples = program.inputs_of("sample")
    if len(samples) > 1:
        return NoMatch(f"the latents are {len(samples)} tensors, and one distance is of one", samples[0].name)
    return samples[0] if samples else NoMatch("the program does not read the latents")


def _find_modulated(program: Program) -> fx.Node | NoMatch:
    """The value that every projection of the first branch reads.

    The first branch is the first one on the token stream that comes from the latents. From where the stream enters the
    block down to the first matrix products of the branch there must be exactly one value that these read, and it must
    depend on the timestep.
    """
    first = _first_branch(program)
    if isinstance(first, NoMatch):
        return first
    nodes = program.named()
    branch, entry = nodes[first.value], strip_stream(nodes[first.spine])
    between = (ancestors(branch) | {branch}) & descendants([entry])
    read = _read_by_products(program, between)
    if len(read) != 1:
        names = ", ".join(sorted(node.name for node in read))
        return NoMatch(f"the matrix products of {first.name} read {len(read)} values, not one: {names}", first.value)
    (found,) = read
    if found not in descendants(program.inputs_of("timestep")):
        return NoMatch(f"what {first.name} reads does not depend on the timestep, so it is not modulated", found.name)
    return found


def _first_branch(program: Program) -> Site | NoMatch:
    """The first branch whose stream comes from the latents and from no other branch.

    Where text and latents are one tensor before the blocks (CogVideoX), both seem to come from the latents. Then the
    stream is meant that also leaves the stack of blocks: the model's result is made of it alone.
    """
    nodes = program.named()
    branches = program.found["branch"]
    gone = [name for site in branches for name in (site.value, site.spine) if name not in nodes]
    if gone:
        return NoMatch("a value of the blocks is no longer computed", gone[0])
    behind = descendants(nodes[site.value] for site in branches)
    fresh = descendants(program.inputs_of("sample")) - behind
    firsts = [site for site in branches if strip_stream(nodes[site.spine]) in fresh]
    entries = {strip_stream(nodes[site.spine]) for site in firsts}
    if len(entries) > 1:
        entries &= {strip_stream(nodes[site.spine]) for site in program.found["stack"] if site.spine in nodes}
    if len(entries) != 1:
        names = ", ".join(sorted(node.name for node in entries))
        return NoMatch(f"{len(entries)} token streams come from the latents, not one: {names or 'none'}")
    return next(site for site in firsts if strip_stream(nodes[site.spine]) in entries)


def _read_by_products(program: Program, between: set[fx.Node]) -> set[fx.Node]:
    """The values of `between` that its first matrix products read.

    Views and casts of a value are the value, and so is its concatenation with others that are none of `between`: where
    text and image are projected together, the image is meant.
    """
    behind: set[fx.Node] = set()
    read: set[fx.Node] = set()
    for node in program.calls():
        sources = [source for source in node.all_input_nodes if source in between and node in between]
        if any(source in behind for source in sources):
            behind.add(node)
        elif is_heavy([node]) and sources:
            behind.add(node)
            read |= {_own_part(source, between) for source in sources}
    return read


def _own_part(node: fx.Node, between: set[fx.Node]) -> fx.Node:
    """The value that `node` shows, or the one operand of `between` that a concatenation shows beside others."""
    while True:
        node = strip_stream(node, between)
        parts = [source for source in node.all_input_nodes if source in between]
        if node.target is not aten.cat.default or len(parts) != 1:
            return node
        node = parts[0]


def _find_embedding(program: Program) -> fx.Node | NoMatch:
    return _nth_linear(program, 2, "embedding")


def _find_projection(program: Program) -> fx.Node | NoMatch:
    return _nth_linear(program, 3, "projection")


def _nth_linear(program: Program, number: int, what: str) -> fx.Node | NoMatch:
    """The first matrix product with `number` of them in a row, itself included, from the timestep on.

    Every embedder of the field is sinusoids, a linear, an activation, and another linear. What depends on the latents
    or on an attention (a refined text) does not count.
    """
    moving = descendants(program.inputs_of("sample", "slot", "coefficients", "refresh"))
    depth: dict[fx.Node, int] = dict.fromkeys(program.inputs_of("timestep"), 0)
    for node in program.calls():
        known = [depth[source] for source in node.all_input_nodes if source in depth]
        if known and node not in moving and not is_attention([node]):
            depth[node] = max(known) + is_heavy([node])
            if is_heavy([node]) and depth[node] == number:
                return node
    return NoMatch(f"no linear is number {number} in a row from the timestep on, so there is no timestep {what}")


_FINDERS: Mapping[Source, Callable[[Program], fx.Node | NoMatch]] = {
    "modulated": _find_modulated,
    "latents": _find_latents,
    "timestep embedding": _find_embedding,
    "timestep projection": _find_projection,
}
