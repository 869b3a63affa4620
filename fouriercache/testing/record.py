"""From an optimised module or a program to its golden."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path

from fouriercache.cost import ModeCost, bytes_kept, cost_of, cost_of_calls, hinted
from fouriercache.errors import GoldenError
from fouriercache.paths import path_of
from fouriercache.program import NoMatch, Program, Site, tensor_of
from fouriercache.runtime.bundled import BundledModule
from fouriercache.runtime.module import OptimizedModule
from fouriercache.testing.bundles import golden_of_bundle
from fouriercache.testing.fold import fold_program
from fouriercache.testing.golden import Golden, Section
from fouriercache.testing.names import Sizes
from fouriercache.testing.visits import Place, find_visits, in_rows
from fouriercache.text import target_text, type_text

_DIGITS = 16
"""Hexadecimal digits of a digest: enough to tell graphs apart that nobody made to collide."""


Subject = OptimizedModule | Program | BundledModule | str | Path
"""What has a golden: a string or path is the folder of a bundle."""


def golden_of(subject: Subject, spec: str | None = None) -> Golden:
    """Record the graphs of an optimised module's last capture, one program, or a bundle, loaded or in its folder.

    Args:
        spec: how `fouriercache check` builds the model again: "demo", "dit-xl-2", "package.module:function".

    Raises:
        GoldenError: it is none of these.
        NotCapturedError: nothing has been captured yet.
        BundleError, MissingExtraError: the folder is no sound bundle, or the extra `onnx` is not installed.
    """
    if isinstance(subject, str | Path):
        return golden_of_bundle(path_of(subject))
    if isinstance(subject, BundledModule):
        return golden_of_bundle(subject.folder)
    if not isinstance(subject, OptimizedModule | Program):
        raise GoldenError(
            f"a {type(subject).__name__} has no rewritten graphs.\n"
            "  Pass what fc.optimize() returned, a program of it, or the folder of an exported bundle."
        )
    versions = {name: metadata.version(name).partition("+")[0] for name in ("torch", "diffusers")}
    made_with = {"made with": ", ".join(f"{name} {version}" for name, version in versions.items())}
    if isinstance(subject, Program):
        return Golden(made_with, {"program": _record_program(subject)})
    report, canonical = subject.report, subject.program("canonical")
    head = {
        "model": type(subject.model).__name__,
        "method": repr(subject.method),
        "steps": str(subject.session.num_steps or "any"),
        "counted for": _sample_text(canonical),
        **({} if spec is None else {"spec": spec}),
        **made_with,
    }
    programs = {mode: _record_program(subject.program(mode), report.moving[mode]) for mode in report.modes}
    kept = {output.name for output in subject.program("compute").outputs if output.role == "slot"}
    return Golden(head, {"sites": _record_sites(canonical, report.refused, kept), **programs})


def _record_program(program: Program, prepared: ModeCost | None = None) -> Section:
    """Record one program: its digest, what it costs, and its text with repeated blocks folded.

    Args:
        prepared: what is left to do in a step once all that can be computed ahead has been.
    """
    cost = cost_of(program)
    facts = {
        "digest": _digest_of(program),
        "launches": _by_depth(program, lambda found: found.launches),
        "FLOPs": _by_depth(program, lambda found: found.flops),
        "weights read": _bytes_text(cost.parameters_read),
        "kept features": f"{_bytes_text(cost.kept_read)} read, {_bytes_text(cost.kept_written)} written",
        "activations": _bytes_text(cost.activations),
    }
    if prepared is not None:
        weights = _bytes_text(prepared.parameters_read)
        facts["prepared"] = f"{prepared.launches:,} launches, {prepared.flops:,} FLOPs, {weights} of weights"
    calls = Counter(target_text(node.target) for node in program.calls())
    return Section(
        facts, {"operators": tuple(f"{name} {count}" for name, count in sorted(calls.items())), **fold_program(program)}
    )


def _digest_of(program: Program) -> str:
    """A digest of the program's whole text, on whatever device it is."""
    text = re.sub(r"\bdevice=[a-z]+(:\d+)?", "device=here", program.text())
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _sample_text(program: Program) -> str:
    """The sample's shape in the call that costs are counted for."""
    tensor = tensor_of(program.inputs_of("sample")[0])
    assert tensor is not None
    return type_text(tensor, lambda size: str(hinted(size)))


def _bytes_text(count: int) -> str:
    return f"{count:,} bytes"


def _by_depth(program: Program, count: Callable[[ModeCost], int]) -> str:
    """A count as a function of depth: `134 = 22 outside + blocks (15 + 7 x 14)`."""
    found: dict[str, Counter[int | None]] = {}
    for visit in find_visits(program.graph):
        counts = found.setdefault(visit.place.group, Counter())
        counts[visit.place.index] += count(cost_of_calls(visit.calls))
    total = sum(sum(counts.values()) for counts in found.values())
    terms = []
    for group, counts in found.items():
        in_order = [counts[index] for index in sorted(counts, key=lambda index: -1 if index is None else index)]
        runs = [(value, len(list(run))) for value, run in itertools.groupby(in_order)]
        said = " + ".join(f"{value:,}" if times == 1 else f"{times} x {value:,}" for value, times in runs)
        terms.append(f"{said} {group}" if None in counts else f"{group} ({said})")
    return f"{total:,} = {' + '.join(terms)}"


def _record_sites(program: Program, refused: Mapping[str, list[NoMatch]], kept: set[str]) -> Section:
    blocks = Counter((block.group, block.kind) for block in program.blocks)
    used = Counter(site.kind for site in program.sites)
    grid = program.grid
    facts = {
        "blocks": ", ".join(f"{count} {kind} in {group}" for (group, kind), count in blocks.items()),
        "in use": ", ".join(f"{count} {kind}" for kind, count in used.items()),
        "found": ", ".join(f"{len(sites)} {kind}" for kind, sites in sorted(program.found.items())),
        "token grid": "none" if grid is None else f"{grid.t} x {grid.h} x {grid.w} from token {grid.start}",
        "kept": f"{_bytes_text(bytes_kept(program, kept))} of up to {program.history} computed steps",
        "refused": str(sum(len(reasons) for reasons in refused.values())),
    }
    parts = {"sites": tuple(_site_lines(program)), "refusals": tuple(_refusal_lines(program, refused))}
    return Section(facts, {title: lines for title, lines in parts.items() if lines})


def _site_lines(program: Program) -> Iterable[str]:
    sizes = Sizes(program)

    def said(site: Site, place: Place) -> str:
        shape = ",".join(sizes(size) for size in site.shape)
        return f"{place.shorten(site.name)}: {site.kind} [{shape}]{' gated' if site.gated else ''}"

    by_place = itertools.groupby(program.sites, lambda site: Place.read(site.block))
    return in_rows((place, tuple(said(site, place) for site in run)) for place, run in by_place)


def _refusal_lines(program: Program, refused: Mapping[str, list[NoMatch]]) -> Iterable[str]:
    def place_of(reason: str) -> Place:
        paths = [block.path for block in program.blocks if reason.startswith(f"{block.path}.")]
        return Place.read(paths[0] if paths else "")

    pairs = [(name, found.reason.splitlines()[0]) for name, reasons in refused.items() for found in reasons]
    by_place = itertools.groupby(pairs, lambda pair: place_of(pair[1]))
    return in_rows(
        (place, tuple(f"{name}: {place.shorten(reason)}" for name, reason in run)) for place, run in by_place
    )
