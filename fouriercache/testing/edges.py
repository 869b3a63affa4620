"""What a program takes and returns, with the sites of blocks in a row in one line."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from torch import fx

from fouriercache.program import Input, Output, Program
from fouriercache.testing.names import Names, Sizes, type_of
from fouriercache.testing.visits import Place, in_rows


def input_lines(program: Program, names: Names, sizes: Sizes) -> Iterator[str]:
    """One line for each of the caller's inputs, and one for a row of blocks whose sites have the same."""
    nodes = dict(zip((given.name for given in program.inputs), program.placeholders, strict=True))

    def said(given: Input, place: Place) -> str:
        sizes.begin()
        return f"{names.of_input(given.name, place)}: {type_of(nodes[given.name], sizes)}"

    by_place = itertools.groupby(program.inputs, lambda given: names.place_of(names.site_of(given.name, given.role)))
    return in_rows((place, tuple(said(given, place) for given in run)) for place, run in by_place)


def output_lines(program: Program, names: Names) -> Iterator[str]:
    """One line for each result, and one for a row of blocks whose sites return the same."""

    def said(output: Output, node: fx.Node, place: Place) -> str:
        site = names.site_of(output.name, output.role)
        is_state = output.role == "state" and site is not None
        name = names.of_state(output.name, site, place) if is_state and site else place.shorten(output.name)
        if not names.is_call(node):
            return f"{output.role} {name} = {names.of_input(node.name, place)}"
        origin = names.origin(node)
        home = f"own#{origin.number}" if origin.place == place and place.index is not None else origin.visit
        return f"{output.role} {name} = {home} %{origin.value}"

    pairs = zip(program.outputs, program.results, strict=True)
    by_place = itertools.groupby(pairs, lambda pair: names.place_of(names.site_of(pair[0].name, pair[0].role)))
    return in_rows((place, tuple(said(output, node, place) for output, node in run)) for place, run in by_place)
