"""Find the values that an adaptive schedule can look at, with no knowledge of any model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import fx

from fouriercache.indicators.base import Source
from fouriercache.passes.match import ancestors, descendants, is_heavy, strip_stream
from fouriercache.program import NoMatch, Program, Site


def find_source(program: Program, source: Source) -> fx.Node | NoMatch:
    """Return the value that an indicator is made of, or why it cannot be told.

    Needs the sites. Returns NoMatch, too, when the program no longer computes the value.
    """
    return _FINDERS[source](program)


def _find_latents(program: Program) -> fx.Node | NoMatch:
    samples = program.inputs_of("sample")
    return samples[0] if samples else NoMatch("the program does not read the latents")


def _find_modulated(program: Program) -> fx.Node | NoMatch:
    """The value that every projection of the first branch reads.

    The first branch is the first one on the image's token stream: the stack's stream that comes from the latents. From
    where the stream enters the blocks down to the first matrix products of the branch there must be exactly one value
    that these read, and it must depend on the timestep.
    """
    entry = _image_entry(program)
    if isinstance(entry, NoMatch):
        return entry
    first = _first_branch(program, entry)
    if isinstance(first, NoMatch):
        return first
    branch = program.named()[first.value]
    between = (ancestors(branch) | {branch}) & descendants([entry])
    read = _read_by_products(program, between)
    if len(read) != 1:
        names = ", ".join(sorted(node.name for node in read))
        return NoMatch(f"the matrix products of {first.name} read {len(read)} values, not one: {names}", first.value)
    (found,) = read
    if found not in descendants(program.inputs_of("timestep")):
        return NoMatch(f"what {first.name} reads does not depend on the timestep, so it is not modulated", found.name)
    return found


def _image_entry(program: Program) -> fx.Node | NoMatch:
    """The value at which the image's token stream enters the blocks."""
    nodes = program.named()
    if not program.found.get("stack"):
        return NoMatch("no token stream can be followed through the whole stack of blocks")
    gone = [site.spine for site in program.found["stack"] if site.spine not in nodes]
    if gone:
        return NoMatch("the value at which the stream enters the blocks is gone", gone[0])
    moving = descendants(program.inputs_of("sample"))
    entries = {strip_stream(nodes[site.spine]) for site in program.found["stack"]} & moving
    if len(entries) != 1:
        names = ", ".join(sorted(node.name for node in entries))
        return NoMatch(f"{len(entries)} token streams come from the latents, not one: {names or 'none'}")
    return next(iter(entries))


def _first_branch(program: Program, entry: fx.Node) -> Site | NoMatch:
    nodes = program.named()
    for site in program.found["branch"]:
        if site.spine in nodes and strip_stream(nodes[site.spine]) is entry:
            if site.value not in nodes:
                return NoMatch(f"{site.name} is no longer computed", site.value)
            return site
    return NoMatch("no branch is added to the stream where it enters the blocks", entry.name)


def _read_by_products(program: Program, between: set[fx.Node]) -> set[fx.Node]:
    """The values of `between` that its first matrix products read; views and casts of a value are the value."""
    behind: set[fx.Node] = set()
    read: set[fx.Node] = set()
    for node in program.calls():
        sources = [source for source in node.all_input_nodes if source in between and node in between]
        if any(source in behind for source in sources):
            behind.add(node)
        elif is_heavy([node]) and sources:
            behind.add(node)
            read |= {strip_stream(source, between) for source in sources}
    return read


def _find_embedding(program: Program) -> fx.Node | NoMatch:
    return _nth_linear(program, 2, "embedding")


def _find_projection(program: Program) -> fx.Node | NoMatch:
    return _nth_linear(program, 3, "projection")


def _nth_linear(program: Program, number: int, what: str) -> fx.Node | NoMatch:
    """The first matrix product with `number` of them in a row, itself included, from the timestep on.

    Every embedder of the field is sinusoids, a linear, an activation, and another linear. What depends on the latents
    does not count.
    """
    moving = descendants(program.inputs_of("sample", "slot", "coefficients", "refresh"))
    depth: dict[fx.Node, int] = dict.fromkeys(program.inputs_of("timestep"), 0)
    for node in program.calls():
        known = [depth[source] for source in node.all_input_nodes if source in depth]
        if known and node not in moving:
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
