"""The passes in order, with the reasons for the order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from torch import fx

from fouriercache.capture import Capture
from fouriercache.codecs import Storage
from fouriercache.errors import MethodError, PreconditionError, UnsupportedModelError
from fouriercache.gates import one_at_a_time
from fouriercache.indicators import Indicator
from fouriercache.methods import Method
from fouriercache.passes.ahead import look_ahead
from fouriercache.passes.base import Pipeline
from fouriercache.passes.embed_last import EmbedLast
from fouriercache.passes.encode_cache import EncodeCache
from fouriercache.passes.expose_maps import ExposeMaps
from fouriercache.passes.find_grid import FindGrid, check_grid
from fouriercache.passes.find_sites import FindSites
from fouriercache.passes.fold_modulation import FoldModulation
from fouriercache.passes.fuse_update import FuseUpdate
from fouriercache.passes.hoist_conditioning import MOVING, HoistConditioning
from fouriercache.passes.insert_cache import InsertCache
from fouriercache.passes.insert_gate import InsertGate
from fouriercache.passes.insert_predictor import InsertPredictor
from fouriercache.passes.insert_probe import InsertProbe
from fouriercache.passes.lower_tokens import LowerTokens
from fouriercache.passes.lower_transforms import LowerTransforms
from fouriercache.passes.merge_duplicates import MergeDuplicates
from fouriercache.passes.narrow_linear import NarrowLinear
from fouriercache.passes.outline_cond import OutlineCond
from fouriercache.passes.project_patches import ProjectPatches
from fouriercache.passes.remove_dead import RemoveDead
from fouriercache.passes.remove_noops import RemoveNoops
from fouriercache.passes.select_tokens import SelectTokens
from fouriercache.passes.specialize_step import SpecializeStep
from fouriercache.passes.split import split, trim
from fouriercache.program import NoMatch, Output, OutputRole, Program, TokenGrid, sizes_of, tensor_of
from fouriercache.schedules import SiteSchedule
from fouriercache.steps import Mode, ProbePrograms, StepPrograms, Steps, modes_of
from fouriercache.tokens import partial_tokens


def _facts_pipeline() -> Pipeline:
    """From a captured program to one whose blocks, sites and grid are known."""
    return Pipeline(
        (
            RemoveNoops(),  # first: no-op casts and full slices cut the patterns of FindSites in two
            FindSites(),  # before MergeDuplicates, which may move a shared value into another block
            FindGrid(),  # after FindSites: the grid must match the stack's token stream
            MergeDuplicates(),
            RemoveDead(),
        )
    )


def _canonical_pipeline(method: Method) -> Pipeline:
    """From there to the canonical program."""
    predictor, storage, chosen = method.predictor, method.codec.storage, partial_tokens(method.tokens)
    kinds = () if chosen is None else tuple(dict.fromkeys(reader.map_kind for reader in chosen.score.maps))
    # Sites that are computed at steps of their own are predicted by rows of their own.
    per_site = predictor.per_site or (isinstance(method.schedule, SiteSchedule) and predictor.history > 1)
    if predictor.edges and storage.basis is None:
        # Transforming what is computed is one transform; transforming what is kept would be one for each slot.
        storage = replace(storage, basis="dct", keep=1.0)
    return Pipeline(
        (
            *([ExposeMaps(kinds)] if kinds else []),  # before SelectTokens, which looks for the maps
            InsertCache(method.site, predictor.history),
            InsertPredictor(predictor.edges, per_site, storage.basis or "dct"),
            EncodeCache(storage),  # after InsertPredictor: where it may transform back depends on what is predicted
            InsertGate(),
            *([SelectTokens(chosen), RemoveNoops(), MergeDuplicates()] if chosen is not None else []),  # of the scores
        )
    )


def _mode_pipeline(mode: Mode, refreshed: tuple[int, ...] = ()) -> Pipeline:
    """From the canonical program to one step mode."""
    return Pipeline(
        (
            SpecializeStep(mode, refreshed),
            NarrowLinear(),  # once the branches are gone, only the gates of a modulation are read
            RemoveDead(),
            # not where all is computed: such a step is the model's own to the bit
            # before FuseUpdate, which wants a stream's layout, and HoistConditioning, which hoists what is folded
            *([] if mode == "compute" else [ProjectPatches(), FoldModulation()]),
            HoistConditioning(),  # before FuseUpdate: it stacks the gates ahead of the blocks
            MergeDuplicates() if mode == "compute" else FuseUpdate(),
            *([EmbedLast()] if mode == "reuse" else []),  # after FuseUpdate, which adds the updates to the stream
            LowerTokens(),  # after FuseUpdate, which is written for the custom nodes
            LowerTransforms(),  # after FuseUpdate, which moves them
        )
    )


@one_at_a_time
def build_steps(capture: Capture, method: Method, grid: TokenGrid | None = None, *, check: bool = False) -> Steps:
    """Rewrite a captured program for a method.

    Args:
        capture: its program is left as it is.
        grid: the token grid, when the graph does not show it.
        check: hold every pass to its whole contract; slow.

    Raises:
        UnsupportedModelError: the model has no site of the asked kind, no cached value shortens a step, `grid` fits
            no token stream, or the schedule's indicator cannot be found.
    """
    canonical = capture.program.clone()
    canonical.grid = grid
    _check_codec(method)
    _facts_pipeline().apply(canonical, check=check)
    if grid is not None:
        check_grid(canonical, grid)
    # before the cache: what is looked at is computed, never predicted
    probe = _build_probe(canonical, method.schedule.indicator, check=check) if method.schedule.indicator else None
    _canonical_pipeline(method).apply(canonical, check=check)

    def whole(mode: Mode, refreshed: tuple[int, ...] = ()) -> Program:
        program = canonical.clone()
        _mode_pipeline(mode, refreshed).apply(program, check=check)
        return program

    wholes = {mode: whole(mode) for mode in modes_of(method)}
    if not isinstance(method.schedule, SiteSchedule):  # a site computed alone may read what no other step reads
        _drop_unread_sites(canonical, wholes)
    parts = {mode: cut(program) for mode, program in wholes.items()}
    return Steps(
        capture,
        canonical,
        parts,
        lambda: outline(canonical),
        lambda *key: cut(whole(*key)),
        cache(lambda fuses: look_ahead(parts["reuse"].moving, fuses=fuses)),
        probe,
    )


def _check_codec(method: Method) -> None:
    """Raise MethodError when tokens are to be written into a value that is not kept as it is."""
    if method.tokens.is_partial and (method.codec.storage != Storage() or method.predictor.edges):
        raise MethodError(
            f"The tokens {method.tokens.name!r} are written into the kept value, which is not kept token by token.\n"
            f"  where: {method.tokens!r} with {method.codec!r} and {method.predictor!r}\n"
            "  Use codec=Dense() and a predictor of one band, or tokens=All()."
        )


def _build_probe(known: Program, indicator: Indicator, *, check: bool = False) -> ProbePrograms:
    """Return what computes an indicator, from a program whose sites and grid are known and which is left as it is.

    Raises:
        UnsupportedModelError: the indicator cannot be found.
    """
    probe = known.clone()
    Pipeline((InsertProbe(indicator),)).apply(probe, check=check)
    _keep_outputs(probe, {"distance": "result", "state": "state"})
    # of the modulation only shift and scale of one branch are left to read
    Pipeline((NarrowLinear(), RemoveDead(), HoistConditioning())).apply(probe, check=check)
    parts = cut(replace(probe, sites=(), history=0))
    first = parts.moving.clone()
    _keep_outputs(first, {"state": "state"})
    return ProbePrograms(parts, first)


def _keep_outputs(program: Program, roles: Mapping[OutputRole, OutputRole]) -> None:
    """Return the outputs of these roles alone, in the order of `roles`, under the new roles; drop what then is dead."""
    pairs = list(zip(program.results, program.outputs, strict=True))
    kept = [(node, Output(given.name, roles[role])) for role in roles for node, given in pairs if given.role == role]
    program.set_outputs([node for node, _ in kept], [output for _, output in kept])
    trim(program)
    program.verify()


def outline(canonical: Program) -> Program:
    """The canonical program as one graph: one `torch.cond` over the two specialised bodies.

    Its inputs are the caller's, then the slots, coefficients and `refresh`; it returns the results, then each site's
    newest value.
    """
    if canonical.inputs_of("control"):
        raise PreconditionError(
            "a method that computes some tokens afresh has no single graph: its steps take and return other states.\n"
            "  Take its modes one by one: program('compute'), program('partial')."
        )
    program = canonical.clone()
    compute = (MergeDuplicates(), LowerTransforms())
    reuse = (
        *(NarrowLinear(), RemoveDead(), ProjectPatches(), FoldModulation()),
        *(HoistConditioning(), FuseUpdate(), EmbedLast(), LowerTransforms()),
    )
    Pipeline((OutlineCond(compute, reuse),)).apply(program)
    return program


def _drop_unread_sites(canonical: Program, wholes: dict[Mode, Program]) -> None:
    """Let computed steps return only what a reuse step reads.

    With every branch replaced, some streams are dead to their end: the text of a dual-stream model feeds attention
    alone. Their features need no cache.
    """
    slots = canonical.slots
    read = {slots[given.name].column for given in wholes["reuse"].inputs if given.role == "slot"}
    unread = [site.name for site in canonical.sites if read.isdisjoint(canonical.columns(site))]
    if len(unread) == len(canonical.sites):
        raise UnsupportedModelError(
            f"a reuse step would read none of the {len(unread)} {canonical.sites[0].kind} sites.\n"
            "  The model's result does not depend on them; there is nothing to cache."
        )
    for name in unread:
        canonical.refuse("InsertCache", NoMatch(f"{name}: no reuse step reads it, so it is not kept"))
    compute = wholes["compute"]
    kept = [
        (node, output)
        for node, output in zip(compute.results, compute.outputs, strict=True)
        if output.role != "slot" or output.name in read
    ]
    compute.set_outputs([node for node, _ in kept], [output for _, output in kept])
    RemoveDead().rewrite(compute)
    compute.verify()


def cut(whole: Program) -> StepPrograms:
    """Cut a mode's program into what depends on the conditioning, what on the timestep too, and the rest."""
    still, moving = split(whole, MOVING)
    context, timed = split(still, ("timestep",))
    given = {output.name for output in context.outputs}
    # A value of the context that `timed` only passes on goes to `moving` straight from the context.
    kept = [(n, o) for n, o in zip(timed.results, timed.outputs, strict=True) if o.name not in given]
    timed.set_outputs([node for node, _ in kept], [Output(o.name, "hoisted") for _, o in kept])
    for part in (context, timed, moving):
        part.verify()
    return StepPrograms(whole, context, timed, moving, _rows_of(timed))


def _rows_of(timed: Program) -> frozenset[str] | None:
    """Names of the inputs that lead with the timestep's dynamic size; None unless every result does, too."""
    stamps = timed.inputs_of("timestep")
    tensor = tensor_of(stamps[0]) if stamps else None
    if tensor is None or tensor.ndim != 1 or isinstance(sizes_of(tensor)[0], int):
        return None
    batch = sizes_of(tensor)[0]

    def has_rows(node: fx.Node) -> bool:
        value = tensor_of(node)
        return value is not None and value.ndim > 0 and sizes_of(value)[0] == batch

    if not all(has_rows(node) for node in timed.results):
        return None
    return frozenset(node.name for node in timed.placeholders if has_rows(node))
