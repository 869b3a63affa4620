"""Whether what a manifest says of a form's graphs fits together, so that none asks for what nothing gives."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from fouriercache.bundle.calls import OutputTree
from fouriercache.bundle.manifest import Form, Given, Graph, KeptSlot
from fouriercache.bundle.sizes import shape_of
from fouriercache.errors import BundleError

_FROM_BEFORE = ("sample", "timestep", "conditioning", "hoisted")
"""Roles of inputs that are the call's own, or what a part that ran before returns."""

_HOLDERS = ("tuple", "list", "dict", "output")


def check_joints(form: Form, where: str, history: int) -> None:
    """Raise BundleError when an input of a graph is given by nothing, or sizes, results or slots make no sense.

    Args:
        where: what the form is called in the manifest. history: computed features that the predictor reads.
    """
    for graph in form.graphs():
        for shape in [given.shape for given in graph.inputs] + [returned.shape for returned in graph.outputs]:
            shape_of([size for size in shape if isinstance(size, int)], {})
    if any(len(entry) < 2 for entry in form.call.key):
        raise unfit(f"{where}.call.key", "an entry that names nothing")
    if {slot.age for slot in form.slots.values()} != set(range(history)):
        raise unfit(f"{where}.slots", f"other ages than the {history} features that the predictor reads")
    given = {tensor.name for tensor in form.call.tensors}
    modes = [(f"{where}.{mode.mode}", mode.parts) for mode in form.modes]
    kept = {output.name for _, parts in modes for output in parts.moving.outputs if output.role == "slot"}
    columns = {site.name: site.columns for site in form.sites}
    for name, slot in form.slots.items():
        if slot.column not in columns.get(slot.site, ()):
            raise unfit(f"{where}.slots.{name}", f"a column {slot.column!r} that its site {slot.site!r} does not have")
    if len({(mode.mode, mode.refreshed) for mode in form.modes}) != len(form.modes):
        raise unfit(f"{where}.modes", "a mode twice")
    leaves = _leaves(form.output, f"{where}.output")
    for name, parts in modes:
        if [output.role for output in parts.moving.outputs].count("result") != leaves:
            raise unfit(name, f"other results than the {leaves} that the model returns")
    probes = [] if form.probe is None else [(f"{where}.probe", form.probe.parts)]
    for name, parts in modes + probes:
        known = set(given)
        for part in (parts.context, parts.timed, parts.moving):
            if part is not None:
                _check_inputs(part, known, form.slots, kept, name)
                known |= {f"hoisted_{output.name}" for output in part.outputs if output.role == "hoisted"}
        if form.probe is not None and parts is form.probe.parts:
            _check_inputs(form.probe.first, known, form.slots, kept, name)
    if form.single is not None:
        _check_inputs(form.single, given, form.slots, kept, f"{where}.single")


def _check_inputs(
    graph: Graph, known: Collection[str], slots: Mapping[str, KeptSlot], kept: Collection[str], where: str
) -> None:
    for given in graph.inputs:
        if not _is_given(given, known, slots, kept):
            raise unfit(where, f"{graph.file}, whose input {given.name!r} ({given.role}) nothing gives")


def _is_given(given: Given, known: Collection[str], slots: Mapping[str, KeptSlot], kept: Collection[str]) -> bool:
    if given.role == "slot":
        return given.name in slots and slots[given.name].column in kept
    return given.role not in _FROM_BEFORE or given.name in known


def _leaves(tree: OutputTree, where: str) -> int:
    """How many results a tree holds."""
    return sum(1 for part in _walk(tree, where) if part.kind == "leaf")


def _walk(tree: OutputTree, where: str) -> Iterator[OutputTree]:
    has_names = tree.kind in ("dict", "output")
    if tree.kind not in ("leaf", "constant", *_HOLDERS) or (has_names and len(tree.names) != len(tree.parts)):
        raise unfit(where, f"what is no result: {tree.kind!r} of {len(tree.parts)} parts, {len(tree.names)} names")
    yield tree
    for part in tree.parts:
        yield from _walk(part, where)


def unfit(where: str, what: str) -> BundleError:
    """Return the error for a part of a manifest that does not fit the others."""
    return BundleError(f"the bundle's manifest is not as it should be: {where} has {what}.")
