"""`export`: everything that was captured of an optimised module, as a folder that runs without the model's code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn
from torch._subclasses import FakeTensor

from fouriercache.bundle.calls import name_of, parameters_of
from fouriercache.bundle.folder import check_place, file_of, folder_of, staged
from fouriercache.bundle.manifest import MANIFEST, Form, Manifest, ModelFacts, Trajectory
from fouriercache.bundle.plain import to_plain
from fouriercache.calls import Binder
from fouriercache.errors import BundleError, CaptureError, LoweringError, MethodError, NotCapturedError, TargetError
from fouriercache.export.engine import Engine, Job
from fouriercache.export.steps_table import keys_of, steps_of, why_no_single_graph
from fouriercache.export.tensorrt.bundle_plans import plans_for
from fouriercache.export.tensorrt.plan import Profile
from fouriercache.export.tensorrt.targets import TARGETS
from fouriercache.export.weight_file import WeightFile
from fouriercache.export.write_form import FormWriter
from fouriercache.extras import import_extra
from fouriercache.fingerprints import fingerprint_weights
from fouriercache.runtime.module import OptimizedModule

Notice = Callable[[str], None]
"""Told the name of each file that is about to be made."""

Progress = Callable[[str, float], None]
"""Told the name of an engine's file and how much of it is done, 0 to 1."""

ENGINES: Mapping[str, Callable[[str, Sequence[int]], Engine]] = {"tensorrt": plans_for}
"""Kinds of targets, by what stands before the colon of a target's name. Each says before all work what it cannot do."""

_PACKAGES = ("fouriercache", "torch", "onnx", "onnxscript", "diffusers")


def export(
    fast: OptimizedModule,
    path: str | PathLike[str],
    *,
    targets: Sequence[str] = ("onnx",),
    example_inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]] = (),
    single_graph: bool = True,
    batches: tuple[int, int, int] = (1, 2, 8),
    notice: Notice = lambda _: None,
    progress: Progress = lambda *_: None,
) -> Manifest:
    """Write an optimised module as a bundle: a folder that `load` runs with no model code and no diffusers.

    In it, for each form of call that was captured: one ONNX graph for each step mode, whole and in parts; all graphs
    share one file of weights, in which each tensor stands once; and `manifest.json`, which says all else. The batch is
    dynamic where the capture's is, from 1 on; from 2 on where the model computes one sample otherwise than several. The
    folder gets its name when all of it is written and checked.

    Args:
        fast: what `optimize` returned.
        path: the folder; if there is a bundle already, it is replaced as a whole.
        targets: "onnx" for the ONNX files, which are always written, and engines to be built from them.
        example_inputs: keyword arguments of calls whose forms (resolutions) are captured first, one call or several.
        single_graph: also write the whole method as one graph with one If, for methods that have one.
        batches: (least, typical, most) batch sizes that engines are built for; guidance in one batch doubles them.
        notice: told the name of each file that is about to be made.
        progress: told the name of an engine's file and how much of it is done, 0 to 1.

    Returns:
        The manifest.

    Raises:
        NotCapturedError: nothing was captured of the model as it is, and there are no `example_inputs`; or it is in
            training mode.
        TargetError: a target is not known, or cannot be built for here.
        CaptureError, MethodError: `example_inputs` are no calls of the model, or `single_graph` is no bool.
        PathError: `path` is none.
        BundleError: `path` holds something else, there is no space, or something cannot be said in a manifest.
        LoweringError: a graph cannot be written in ONNX, or an engine not be built of it.
        MissingExtraError: the extra `onnx` is not installed, or the one that a target needs.
    """
    if not isinstance(fast, OptimizedModule):
        raise BundleError(
            f"export takes what optimize() returned, and got a {type(fast).__name__}.\n"
            "  Pass fc.optimize(model, method)."
        )
    check_extras()
    engines = engines_for(targets, batches)
    folder = folder_of(path)
    check_place(folder)
    check_weights(fast.model)
    if not isinstance(example_inputs, Mapping | list | tuple):
        raise CaptureError(
            f"example_inputs= is one call's keyword arguments, or a list of them, and not a "
            f"{type(example_inputs).__name__}.\n  Pass a dict of tensors by name, or leave it out."
        )
    if type(single_graph) is not bool:
        raise MethodError(f"single_graph= is True or False, and not {single_graph!r}.\n  Pass True or False.")
    for arguments in [example_inputs] if isinstance(example_inputs, Mapping) else example_inputs:
        fast.capture(arguments)
    captured = fast.captured[::-1]
    if not captured:
        raise NotCapturedError(
            "nothing has been captured yet, so there is nothing to export.\n"
            "  Call the module once, or pass example_inputs= to export()."
        )
    not_single = why_no_single_graph(fast.method) if single_graph else "it was not asked for"
    with staged(folder) as stage:
        forms = []
        with WeightFile(stage) as weights:
            writer = FormWriter(stage, fast.model, weights, notice)
            for number, steps in enumerate(captured):
                prefix = f"form{number}." if number else ""
                keys, least = keys_of(fast.rules, steps), fast.least_batch(steps)
                forms.append(writer.write(steps, keys, prefix, least, not_single))
        table = steps_of(fast.rules, captured[0].places) or ()
        job = Job(stage, forms, fast.rules.num_steps, [step.counts for step in table], notice, progress)
        plans = {target: to_plain(engine(job)) for target, engine in engines}
        manifest = _describe(fast, forms, plans, stage)
        (stage / MANIFEST).write_text(manifest.text(), encoding="utf-8")
    return manifest


def check_extras() -> None:
    """Raise MissingExtraError when what writes ONNX is not installed."""
    import_extra("onnx")
    import_extra("onnxscript")


def engines_for(targets: Sequence[str], batches: Sequence[int]) -> list[tuple[str, Engine]]:
    """Return each target but "onnx", and what builds engines for it, for (least, typical, most) batch sizes.

    Raises:
        TargetError: a target is not known, or cannot be built for here; or these are no targets' names or no sizes.
        MissingExtraError: one needs an extra that is not installed.
    """
    given: object = targets
    if not isinstance(given, list | tuple) or not all(isinstance(target, str) for target in given):
        raise TargetError(
            f"export takes a list of targets' names, and got {targets!r}.\n"
            "  Pass a list, targets=['onnx', 'tensorrt:sm89']."
        )
    Profile.of(batches)
    return [(target, _engine_for(target, batches)) for target in dict.fromkeys(targets) if target != "onnx"]


def _engine_for(target: str, batches: Sequence[int]) -> Engine:
    kind = target.partition(":")[0]
    if kind not in ENGINES:
        raise TargetError(f"there is no target called {target!r}.\n  Use one of: {', '.join(['onnx', *TARGETS])}.")
    return ENGINES[kind](target, batches)


def check_weights(model: nn.Module) -> None:
    """Raise LoweringError when a weight of the model has no values: there is nothing to write."""
    for name, weight in (*model.named_parameters(), *model.named_buffers()):
        if weight.is_meta or isinstance(weight, FakeTensor):
            raise LoweringError(
                "the model's weights have no values, so there are none to write.\n"
                f"  where: {name}, on {weight.device}\n"
                "  Load them, or give random ones: model.to_empty(device='cpu') and an initialisation."
            )


def _describe(fast: OptimizedModule, forms: Sequence[Form], plans: Mapping[str, Any], stage: Path) -> Manifest:
    rules, model = fast.rules, fast.model
    places = fast.captured[-1].places
    floats = [weight.dtype for weight in model.parameters() if weight.is_floating_point()]
    return Manifest(
        versions={name: found for name in _PACKAGES if (found := _version(name))},
        model=ModelFacts(
            type=f"{type(model).__module__}.{type(model).__qualname__}",
            config=_config(model),
            dtype=name_of(floats[0]) if floats else "float32",
            weights=fingerprint_weights(model),
        ),
        method=rules.method,
        trajectory=Trajectory(
            num_steps=rules.num_steps,
            passes_per_step=rules.passes_per_step,
            direction=rules.direction,
            timesteps=rules.timesteps,
            check_finite=fast.check_finite,
            steps=steps_of(rules, places),
        ),
        parameters=parameters_of(Binder(model).signature),
        forms=tuple(forms),
        plans=plans,
        files={path.name: file_of(path) for path in sorted(stage.iterdir())},
    )


def _config(model: nn.Module) -> dict[str, Any]:
    """The model's configuration, without what is no plain data and what diffusers keeps for itself."""
    given = getattr(model, "config", None)
    config = dict(given) if isinstance(given, Mapping) else {}
    return {str(name): to_plain(value) for name, value in config.items() if name[:1] != "_" and _is_plain(value)}


def _is_plain(value: Any) -> bool:
    try:
        to_plain(value)
    except BundleError:
        return False
    return True


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
