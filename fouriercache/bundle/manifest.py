"""The manifest of a bundle: everything that is not a graph or a weight, as data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fouriercache.bundle.algebra import method_from_plain, method_to_plain
from fouriercache.bundle.calls import CallForm, OutputTree, Parameter
from fouriercache.bundle.plain import from_plain, to_plain
from fouriercache.bundle.plans import check_plans
from fouriercache.errors import BundleError
from fouriercache.methods import Method
from fouriercache.predictors import Coefficients
from fouriercache.program import OutputRole, Role, SiteKind
from fouriercache.strict_files import parse_json

_SCHEMA = 1
MANIFEST, WEIGHTS = "manifest.json", "weights.bin"
_KIND = "fouriercache bundle"


@dataclass(frozen=True)
class File:
    """Size and SHA-256 of one file."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class Given:
    """An input of a graph. Of a dynamic size stands the name; equal names, equal sizes."""

    name: str
    role: Role
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Returned:
    """An output of a graph, named as the program names it; `graph_name` is what it is called in the file."""

    name: str
    role: OutputRole
    dtype: str
    shape: tuple[int | str, ...]
    graph_name: str


@dataclass(frozen=True)
class Graph:
    """One ONNX file, its inputs and outputs in order."""

    file: str
    inputs: tuple[Given, ...]
    outputs: tuple[Returned, ...]


@dataclass(frozen=True)
class GraphParts:
    """A step mode as one graph, `whole`, and cut in what runs once for a conditioning, once for a timestep, and always.

    Attributes:
        context, timed, moving: the parts; what a part returns with the role "hoisted" the next ones take. A part that
            would be empty is None.
        rows: the inputs of `timed` that have a row for each sample; None when its steps cannot be one batch.
        text: the file with the program's text. digest: the SHA-256 of that text.
    """

    whole: Graph
    context: Graph | None
    timed: Graph | None
    moving: Graph
    rows: tuple[str, ...] | None
    text: str
    digest: str


@dataclass(frozen=True)
class GraphMode:
    """A step mode; `refreshed` has the positions of the sites that are computed in it all the same."""

    mode: Literal["compute", "reuse", "partial"]
    refreshed: tuple[int, ...]
    parts: GraphParts


@dataclass(frozen=True)
class GraphProbe:
    """What an adaptive schedule looks at. `first` is the moving part without the distance, for a first step."""

    parts: GraphParts
    first: Graph


@dataclass(frozen=True)
class KeptSlot:
    """What an input of the role "slot" holds: what the computed step `age` places back returned as `column`."""

    site: str
    age: int
    column: str


@dataclass(frozen=True)
class SiteFacts:
    """A site that holds a cache: its name, kind and block; the block's place, the tokens that can be chosen there, and
    the outputs that are kept of it.
    """

    name: str
    kind: SiteKind
    block: str
    layer: int
    tokens: int
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """The token grid."""

    t: int
    h: int
    w: int
    start: int


@dataclass(frozen=True)
class Form:
    """The graphs for calls of one form: one resolution, any batch if it is dynamic.

    Attributes:
        single: the whole method as one graph with one If, or None; `not_single` then says why.
    """

    call: CallForm
    output: OutputTree
    sites: tuple[SiteFacts, ...]
    grid: Grid | None
    slots: Mapping[str, KeptSlot]
    modes: tuple[GraphMode, ...]
    probe: GraphProbe | None
    single: Graph | None
    not_single: str

    def parts(self) -> list[GraphParts]:
        """Every step mode's parts, and those of the probe."""
        return [mode.parts for mode in self.modes] + ([self.probe.parts] if self.probe else [])

    def graphs(self) -> Iterator[Graph]:
        """Every graph of the form."""
        for part in self.parts():
            yield from (graph for graph in (part.whole, part.context, part.timed, part.moving) if graph is not None)
        if self.probe is not None:
            yield self.probe.first
        if self.single is not None:
            yield self.single


@dataclass(frozen=True)
class Step:
    """One step of a trajectory whose schedule is known beforehand: what runs, with which coefficients
    ([sites or 1][bands][K]), and how many tokens each site computes afresh.
    """

    mode: Literal["compute", "reuse", "partial"]
    refreshed: tuple[int, ...]
    coefficients: Coefficients
    counts: tuple[int, ...]


@dataclass(frozen=True)
class ModelFacts:
    """The model that was exported: its class, its diffusers configuration as far as it is plain data, the dtype of its
    weights and their fingerprint.
    """

    type: str
    config: Mapping[str, Any]
    dtype: str
    weights: str


@dataclass(frozen=True)
class Trajectory:
    """How trajectories are told apart, as given to `optimize`; `timesteps` are those of the calibration, if any.

    `steps` has what runs at each step, for a reader; None when that shows in the run alone.
    """

    num_steps: int | None
    passes_per_step: int | None
    direction: Literal["down", "up"]
    timesteps: tuple[float, ...] | None
    check_finite: bool
    steps: tuple[Step, ...] | None


@dataclass(frozen=True)
class Manifest:
    """What a bundle is.

    Attributes:
        versions: of the packages that wrote it. plans: engines, by target and by the graph each stands for: its `file`,
            the `plan` as its builder describes it, and its `facts`, see `PlanFacts`, or None where they are not known.
    """

    versions: Mapping[str, str]
    model: ModelFacts
    method: Method
    trajectory: Trajectory
    parameters: tuple[Parameter, ...]
    forms: tuple[Form, ...]
    plans: Mapping[str, Any]
    files: Mapping[str, File]

    def text(self) -> str:
        """The manifest as JSON; `digest` in it is the SHA-256 of all the rest."""
        content = {"kind": _KIND, "schema": _SCHEMA}
        for name in ("versions", "model", "trajectory", "parameters", "forms", "plans", "files"):
            content[name] = to_plain(getattr(self, name))
        content["method"] = method_to_plain(self.method)
        return json.dumps({**content, "digest": _digest(content)}, indent=1, allow_nan=False) + "\n"


def read_manifest(text: str) -> Manifest:
    """Return the manifest that `Manifest.text` wrote.

    Raises BundleError when it is no manifest, of another schema, or was changed since.
    """
    try:
        content = parse_json(text)
    except ValueError as error:
        raise BundleError(f"the bundle's manifest is no strict JSON: {error}.") from error
    if not isinstance(content, dict) or content.get("kind") != _KIND:
        raise BundleError("the folder's manifest.json is not that of a fouriercache bundle.")
    schema = content.get("schema")
    if type(schema) is not int or schema != _SCHEMA:
        is_newer = type(schema) is int and schema > _SCHEMA
        todo = "Upgrade fouriercache." if is_newer else "Export it again with this version."
        raise BundleError(f"the bundle has schema {schema!r}, and this version reads schema {_SCHEMA}.\n  {todo}")
    digest = content.pop("digest", None)
    if digest != _digest(content):
        raise BundleError(
            "the bundle's manifest was changed after it was written: its digest is not that of its content."
        )
    content = {name: value for name, value in content.items() if name not in ("kind", "schema")}
    known = {"versions", "model", "method", "trajectory", "parameters", "forms", "plans", "files"}
    if set(content) != known:
        raise BundleError(f"the bundle's manifest has the entries {', '.join(sorted(content))}.")
    found = Manifest(
        versions=from_plain(Mapping[str, str], content["versions"], "versions"),
        model=from_plain(ModelFacts, content["model"], "model"),
        method=method_from_plain(content["method"]),
        trajectory=from_plain(Trajectory, content["trajectory"], "trajectory"),
        parameters=from_plain(tuple[Parameter, ...], content["parameters"], "parameters"),
        forms=from_plain(tuple[Form, ...], content["forms"], "forms"),
        plans=from_plain(Mapping[str, Any], content["plans"], "plans"),
        files=from_plain(Mapping[str, File], content["files"], "files"),
    )
    if not found.forms:
        raise BundleError("the bundle has no graphs.")
    graphs = {graph.file for form in found.forms for graph in form.graphs()}
    check_plans(found.plans, graphs, found.files.keys())
    return found


def _digest(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
