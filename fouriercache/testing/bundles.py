"""From a bundle's folder to its golden: the graphs and engines that are shipped, read from the files alone."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fouriercache.bundle.folder import read_folder
from fouriercache.bundle.graphs import read_graph
from fouriercache.bundle.manifest import WEIGHTS, Form, Given, Graph, GraphParts, Returned
from fouriercache.onnx_files import graphs_of, outside_places, parse_onnx
from fouriercache.testing.golden import Golden, Section
from fouriercache.testing.visits import Place, in_rows

if TYPE_CHECKING:
    from onnx import ModelProto

_PLAN_FACTS = (
    "inputs", "outputs", "capturable", "host_branches", "copies", "gemms", "fused_attention", "kernels", "weight_bytes"
)  # fmt: skip


def golden_of_bundle(folder: Path) -> Golden:
    """Record what a bundle ships: its sites, the operators of every ONNX graph, its weights, and facts of its plans.

    Every file is first found to be the one that the manifest names.

    Raises:
        BundleError: the folder is no bundle, or a file in it is not what the manifest says.
        MissingExtraError: the extra `onnx` is not installed.
    """
    manifest = read_folder(folder)
    steps = manifest.trajectory.num_steps
    weights = manifest.files[WEIGHTS].bytes if WEIGHTS in manifest.files else 0
    head = {
        "bundle of": manifest.model.type.rpartition(".")[2],
        "weights": f"{manifest.model.dtype}, in {WEIGHTS} {weights:,} bytes",
        "method": repr(manifest.method),
        "steps": "any" if steps is None else str(steps),
        "made with": ", ".join(f"{name} {manifest.versions.get(name, 'unknown')}" for name in ("torch", "onnx")),
    }
    sections: dict[str, Section] = {}
    for number, form in enumerate(manifest.forms):
        prefix = f"form {number}, " if len(manifest.forms) > 1 else ""
        sections[f"{prefix}sites"] = _record_form(form)
        for name, graph in _graphs(form):
            sections[f"{prefix}{name}"] = _record_graph(graph, parse_onnx(read_graph(folder, manifest, graph)))
    sections |= {f"plans of {target}": _record_plans(plans) for target, plans in manifest.plans.items()}
    return Golden(head, sections)


def _record_form(form: Form) -> Section:
    used = Counter(site.kind for site in form.sites)
    digests = {name: parts.digest[:16] for name, parts in _modes(form)}
    grid = form.grid
    by_block = itertools.groupby(form.sites, lambda site: Place.read(site.block))
    lines = in_rows(
        (place, tuple(f"{place.shorten(site.name)}: {site.kind}, keeps {len(site.columns)}" for site in run))
        for place, run in by_block
    )
    facts = {
        "in use": ", ".join(f"{count} {kind}" for kind, count in used.items()),
        "token grid": "none" if grid is None else f"{grid.t} x {grid.h} x {grid.w} from token {grid.start}",
        "kept": f"{len(form.slots)} values",
        **{f"program of {name}": digest for name, digest in digests.items()},
        "single graph": "yes" if form.single is not None else f"no: {form.not_single}",
    }
    return Section(facts, {"sites": tuple(lines)})


def _modes(form: Form) -> Iterator[tuple[str, GraphParts]]:
    for number, mode in enumerate(form.modes):
        yield (f"{mode.mode} {number}" if mode.refreshed else mode.mode), mode.parts
    if form.probe is not None:
        yield "probe", form.probe.parts


def _graphs(form: Form) -> Iterator[tuple[str, Graph]]:
    for name, parts in _modes(form):
        for part in ("whole", "context", "timed", "moving"):
            graph: Graph | None = getattr(parts, part)
            if graph is not None:
                yield f"{name}, {part}", graph
    if form.probe is not None:
        yield "probe, first", form.probe.first
    if form.single is not None:
        yield "single graph", form.single


def _record_graph(graph: Graph, model: ModelProto) -> Section:
    counts = Counter(node.op_type for part in graphs_of(model) for node in part.node)
    # by where they lie: a weight that is read twice is one
    weights = {place.offset: place.length or 0 for place in outside_places(model)}
    facts = {
        "operators": f"{sum(counts.values()):,}",
        "weights read": f"{sum(weights.values()):,} bytes in {WEIGHTS}",
    }
    return Section(
        facts,
        {
            "inputs": tuple(_ends(graph.inputs)) or ("none",),
            "outputs": tuple(_ends(graph.outputs)),
            "operators": tuple(f"{kind} {count}" for kind, count in sorted(counts.items())),
        },
    )


def _ends(ends: Sequence[Given | Returned]) -> Iterator[str]:
    """Inputs or outputs: the caller's by name, of the others how many there are, as their names are torch's."""
    said = [(end, f"{end.role} {{}}: {end.dtype} [{','.join(map(str, end.shape))}]") for end in ends]
    for text, run in itertools.groupby(said, lambda pair: pair[1]):
        found = [end for end, _ in run]
        names = [end.name for end in found if end.role not in ("slot", "hoisted")]
        yield text.format(", ".join(names) or f"x {len(found)}")


def _record_plans(plans: Mapping[str, Any]) -> Section:
    """What the plans of one target say of themselves; a line for each."""
    parts = {}
    for file, entry in sorted(plans.items()):
        facts = entry["facts"]
        said = ("not known for this version",) if facts is None else tuple(f"{key} {facts[key]}" for key in _PLAN_FACTS)
        parts[file] = said
    return Section({"plans": str(len(plans))}, parts)
