"""Capture: a denoiser and one call become a `Program`, checked against the model itself before anyone uses it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.utils import _pytree as pytree

from fouriercache.assembly import Assembled, assemble
from fouriercache.calls import Binder, Call, apart, find_sample, find_timestep
from fouriercache.disk_cache import CaptureCache
from fouriercache.errors import CaptureError, TrajectoryError
from fouriercache.kept import find_kept, record_with_tables
from fouriercache.live_weights import released
from fouriercache.preconditions import check_eval_mode, check_filled, check_not_offloaded, check_uncached
from fouriercache.program import NoMatch, Program
from fouriercache.questions import Answer, Questions, Recording, record
from fouriercache.tracing import Traced, first_line, hold, trace_call, trace_fixed
from fouriercache.verification import compare_outputs, run_model, run_program

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Capture:
    """A captured program and the calls it serves.

    Attributes:
        program: flat positional tensors in (the call's tensor leaves, in order), flat tensors out.
        key: the constants and nesting that are baked in. paths: how each tensor leaf is reached in a call.
        shapes: for each tensor leaf, sizes; a string stands for a dynamic size, equal strings for equal sizes.
        dtypes, devices: for each tensor leaf.
        out_spec: rebuilds the model's output type from the flat results.
        constants: results that are not tensors, by position.
        guards: sympy relations of the dynamic sizes under which torch.export took the paths it took.
        questions: what the model asked of its inputs in Python; None if it asked nothing.
        kept: names of the program's calls whose results the model itself keeps from an earlier forward, as far as it
            was run.
        is_verified: whether the program was compared with the model on the call it was captured from.
        is_from_disk: whether another process captured it; then it was compared there, with the weights of that one.
    """

    program: Program
    key: tuple[Any, ...]
    paths: tuple[str, ...]
    shapes: tuple[tuple[int | str, ...], ...]
    dtypes: tuple[torch.dtype, ...]
    devices: tuple[torch.device, ...]
    out_spec: pytree.TreeSpec
    constants: Mapping[int, Any]
    guards: tuple[Any, ...] = ()
    questions: Questions | None = None
    kept: tuple[str, ...] = ()
    is_verified: bool = False
    is_from_disk: bool = False

    def serves(self, call: Call) -> bool:
        """Whether the program was made for calls like this one."""
        return self.dynamic_sizes(call) is not None

    def dynamic_sizes(self, call: Call) -> tuple[int, ...] | None:
        """The call's dynamic sizes, in order of first use; None when the program was not made for such a call."""
        sizes = self._sizes_of(call)
        if sizes is None or (self.questions is not None and not self.questions.hold(call.tensors)):
            return None
        return sizes

    def differing_question(self, call: Call) -> tuple[str, bool] | None:
        """What alone keeps the program from serving the call: the line that asks, and whether steps differ in it."""
        if self.questions is None or self._sizes_of(call) is None:
            return None
        found = self.questions.other(call.tensors)
        return None if found is None else (self.questions.answers[found].where, self.questions.changing[found])

    def _sizes_of(self, call: Call) -> tuple[int, ...] | None:
        if call.key != self.key or len(call.tensors) != len(self.shapes):
            return None
        sizes: dict[str, int] = {}
        for tensor, shape, dtype, device in zip(call.tensors, self.shapes, self.dtypes, self.devices, strict=True):
            if tensor.dtype != dtype or tensor.device != device or tensor.ndim != len(shape):
                return None
            for size, wanted in zip(tensor.shape, shape, strict=True):
                if isinstance(wanted, str):
                    if size < 1 or sizes.setdefault(wanted, size) != size:
                        return None
                elif size != wanted:
                    return None
        if not hold(self.guards, tuple(sizes.items())):
            return None
        return tuple(sizes.values())

    def agrees(
        self,
        model: nn.Module,
        arguments: Mapping[str, Any],
        call: Call,
        run: Callable[[Sequence[Tensor]], Sequence[Tensor]] | None = None,
        recording: Recording | None = None,
    ) -> bool:
        """Run program and model on one call that the program serves, and compare them.

        Args:
            run: runs the program; when None, with the weights it was captured with.
            recording: what the model gives, if that is known already.

        Returns:
            Whether there was anything finite to compare.

        Raises:
            CaptureError: they differ.
            Exception: the model itself refuses these inputs.
        """
        want = run_model(model, arguments) if recording is None else recording.outputs
        try:
            with torch.no_grad():
                results = run(call.tensors) if run else run_program(self.program, call.tensors)
                have = pytree.tree_leaves(self.rebuild(results))
        except Exception as error:
            raise CaptureError(
                f"the captured graph of {type(model).__name__} cannot run what the model runs: {first_line(error)}\n"
                "  torch.export took a size for a constant, or the model keeps state from call to call."
            ) from error
        return compare_outputs(model, want, have)

    def rebuild(self, results: Sequence[Tensor]) -> Any:
        """Return the results in the type the model returns."""
        if not self.constants:
            return pytree.tree_unflatten(results, self.out_spec)
        given = iter(results)
        leaves = [self.constants[i] if i in self.constants else next(given) for i in range(self.out_spec.num_leaves)]
        return pytree.tree_unflatten(leaves, self.out_spec)


def capture(
    model: nn.Module,
    arguments: Mapping[str, Any],
    *,
    sample_name: str | None = None,
    timestep_name: str | None = None,
    verify: bool = True,
    is_finite: bool = True,
    fixed: NoMatch | None = None,
    cache: CaptureCache | None = None,
    ready: Callable[[], None] = lambda: None,
) -> Capture:
    """Capture `model` for calls like `model(**arguments)`.

    The batch is dynamic where torch.export can make it so, else the capture serves this batch size alone and the
    program's `refused["capture"]` says why. The captured program is run once and compared with the model.

    Args:
        model: in eval mode; it is not changed.
        arguments: keyword arguments of one call, real tensors (or fake or meta ones with `verify=False`).
        sample_name, timestep_name: which arguments hold the latents and the timestep, when their names do not tell.
        verify: compare the program with the model on `arguments`.
        is_finite: refuse outputs without one finite value, which leave nothing to compare. Otherwise such a program
            comes back with `is_verified` False.
        fixed: why the program must serve this batch size alone; None to let it serve others.
        cache: where captures are kept on disk. What is found there is used as it is: the model is not run.
        ready: called when the model has been run and is about to be traced.

    Raises:
        TrajectoryError: the sample or the timestep is empty, or the timestep not finite.
        CaptureError: the model or a module in it is in training mode or cached by another package, torch.export cannot
            trace it, the program disagrees with it, or there is nothing finite to compare.
        Exception: the model itself refuses `arguments`; its own error, with a note.
    """
    check_eval_mode(model)
    check_uncached(model)
    check_not_offloaded(model)
    arguments = apart(arguments)
    call = Binder(model).flatten(arguments)
    samples = find_sample(call.paths, call.tensors, sample_name)
    timestep = find_timestep(call.paths, call.tensors, timestep_name)
    if timestep in samples:
        raise CaptureError(
            f"{call.paths[timestep]} cannot be both the sample and the timestep.\n"
            "  Give sample_name= and timestep_name= different arguments, or leave out the one that is found alone."
        )
    check_filled((call.paths[index], call.tensors[index]) for index in (*samples, timestep))
    if verify and not call.tensors[timestep].isfinite().all():
        raise TrajectoryError(
            "The timestep is not finite, so no step can be told from it.\n"
            f"  where: {call.paths[timestep]}\n"
            "  Look for NaN or inf in the scheduler's timesteps."
        )
    asked = (sample_name, timestep_name, verify, None if fixed is None else fixed.reason)
    place = None if cache is None else cache.place(model, call, asked)
    kept = None if place is None else place.read()
    if kept is not None:
        return _released(replace(_of_call(call, kept), is_verified=verify, is_from_disk=True), model)
    # Before it is traced: what the model makes once and keeps must not be made of torch.export's fake tensors.
    recording, tables = record_with_tables(model, arguments, run_model) if verify else (None, ())
    ready()

    told: list[Answer] = []

    def to_capture(traced: Traced) -> Capture:
        told.extend(traced.told)
        return _of_call(call, assemble(traced, call, samples, timestep))

    found: Capture | NoMatch = fixed or _capture_any_batch(model, arguments, call, samples[0], recording, to_capture)
    if isinstance(found, Capture) and recording is not None:
        try:
            found = replace(found, is_verified=found.agrees(model, arguments, call, recording=recording))
        except CaptureError as error:
            found = _no_dynamic_batch(error)
    if isinstance(found, NoMatch):
        reason = found
        found = to_capture(trace_fixed(model, arguments, recording))
        found.program.refuse("capture", reason)
        if recording is not None:
            found = replace(found, is_verified=found.agrees(model, arguments, call, recording=recording))
    if verify and is_finite and not found.is_verified:
        raise CaptureError(
            f"{type(model).__name__} itself gives nothing but NaN or inf on these inputs, so there is nothing to "
            "compare its captured graph with.\n"
            "  Look for NaN or inf in the inputs and weights, and for an overflow of the dtype."
        )
    found = replace(found, kept=find_kept(found.program, call.tensors, tables))
    if place is not None and found.is_verified == verify:
        made = Assembled(**{field.name: getattr(found, field.name) for field in fields(Assembled)})
        place.write(made, has_asked=bool(told or (recording is not None and recording.answers)))
    return _released(found, model)


def _released(found: Capture, model: nn.Module) -> Capture:
    """Return the capture with a program that holds no weight of the model, and looks them up there."""
    program = found.program
    attributes = released(program.attributes, program.sources)
    return replace(found, program=replace(program, attributes=attributes, owner=model))


def _of_call(call: Call, made: Assembled) -> Capture:
    tensors = call.tensors
    dtypes, devices = tuple(t.dtype for t in tensors), tuple(t.device for t in tensors)
    return Capture(key=call.key, paths=call.paths, dtypes=dtypes, devices=devices, **vars(made))


def _no_dynamic_batch(error: Exception) -> NoMatch:
    return NoMatch(f"no dynamic batch: {first_line(error)}")


def _capture_any_batch(
    model: nn.Module,
    arguments: Mapping[str, Any],
    call: Call,
    sample: int,
    recording: Recording | None,
    to_capture: Callable[[Traced], Capture],
) -> Capture | NoMatch:
    """Capture with a dynamic batch, or say why that cannot be done.

    torch.export takes a size of 1 for a constant, so a call at batch 1 is traced at batch 2; whether the graph is
    right at 1 is seen by running it, now or at the first such call.
    """
    batch = call.tensors[sample].shape[0]
    example = dict(arguments)
    if batch == 1:
        example = pytree.tree_map(lambda leaf: torch.cat([leaf, leaf]) if _leads(leaf, 1) else leaf, example)
    size = max(batch, 2)
    shapes = pytree.tree_map(lambda leaf: {0: Dim.AUTO} if _leads(leaf, size) else None, example)
    try:
        if batch == 1 and recording is not None:
            recording = record(model, example, run_model)  # two samples answer otherwise than one
        found = to_capture(trace_call(model, example, shapes, recording))
    except Exception as error:  # noqa: BLE001  # torch.export raises many unrelated types for one cause
        logger.info("dynamic batch refused: %s", error)
        return _no_dynamic_batch(error)
    constant = NoMatch("no dynamic batch: the model takes its batch size for a constant")
    if not found.serves(call):
        return constant
    if all(isinstance(size, int) for shape in found.shapes for size in shape):
        found.program.refuse("capture", constant)
    return found


def _leads(leaf: Any, size: int) -> bool:
    """Whether a leaf is a tensor whose first dimension has this size: taken for the batch."""
    return isinstance(leaf, Tensor) and leaf.ndim > 0 and leaf.shape[0] == size
