"""Building plans: one ONNX file, one target, one file, in a process of its own."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import MappingProxyType

import torch

from fouriercache.errors import LoweringError, TargetError
from fouriercache.export.tensorrt.plan import Plan, Profile, plan_from_dict
from fouriercache.export.tensorrt.plan_cache import PlanCache
from fouriercache.export.tensorrt.refusals import no_room
from fouriercache.export.tensorrt.run_worker import Notice, run_worker
from fouriercache.export.tensorrt.targets import Target
from fouriercache.paths import path_of
from fouriercache.tensorrt_library import MODULES, find_library

logger = logging.getLogger(__name__)

DEFAULT_PROFILES = (Profile(),)
_LEVELS = range(6)


def build_plan(
    onnx: str | PathLike[str],
    destination: str | PathLike[str],
    target: Target,
    *,
    profiles: Sequence[Profile] = DEFAULT_PROFILES,
    sizes: Mapping[str, tuple[int, int, int]] = MappingProxyType({}),
    level: int = 3,
    cache: PlanCache | None = None,
    timeout: float = 3600,
    notice: Notice | None = None,
) -> Plan:
    """Build the plan of an ONNX file, with its weights, and write it to `destination`: whole, or not at all.

    Precision is what the file says: the network is strongly typed. A size that the file leaves open is the batch.

    Args:
        onnx: the model; weights may lie in files beside it.
        profiles: ranges of batch sizes; not used for a file with a fixed batch. TensorRT-RTX holds the weights of most
            matrix products once for each.
        sizes: (least, typical, most) of other sizes that it leaves open, by the names it gives them.
        level: the builder's optimisation level, 0 to 5.
        cache: where plans built earlier are looked for, and this one is kept; where it cannot be, the log says why.
            None builds.
        timeout: seconds after which the build is ended.
        notice: called with what the builder does and what part of the whole is done, 0 to 1.

    Raises:
        TargetError: the target cannot be built here, or an option makes no sense.
        CacheFolderError: another user owns the cache's folder, can write to it or replace it, or that cannot be seen.
        LoweringError: TensorRT does not take the model, says which node and why; the build failed, crashed or took too
            long, with the end of its log; the plan could not be written.
        MissingExtraError: the library is not installed.
    """
    if not profiles:
        raise TargetError("a plan needs at least one profile.\n  Give the batch sizes: Profile(least=1, most=8).")
    if level not in _LEVELS:
        raise TargetError(f"the builder's optimisation level is a whole number from 0 to 5, not {level!r}.")
    onnx, destination = path_of(onnx), path_of(destination)
    library = find_library(target.flavour())
    target.check(library, has_gpu=torch.cuda.is_available())
    if not onnx.is_file():
        raise LoweringError(f"there is no ONNX file to build a plan of.\n  where: {onnx}")
    say = notice or _say_nothing
    options = {"profiles": [profile.sizes() for profile in profiles], "sizes": dict(sizes), "level": level}
    key = None if cache is None else cache.key(onnx, library, _device(target), options)
    try:
        known = None if key is None or cache is None else cache.fetch(key, destination)
        if known is not None:
            say("found in the cache", 1.0)
            return known
        with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}.") as folder:
            fresh = Path(folder).resolve() / "plan"
            job = {"module": MODULES[library.flavour], "onnx": str(onnx.resolve()), "plan": str(fresh)}
            found = run_worker({**job, "capability": target.capability, **options}, library, onnx, timeout, say)
            about = {
                "target": target.name,
                "capability": _capability(target),
                "library": library.flavour,
                "version": library.version,
            }
            plan = plan_from_dict(found | about)
            if cache is not None and key is not None:
                _keep(cache, key, plan, fresh)
            fresh.replace(destination)
    except OSError as error:
        raise no_room(Path(error.filename2 or error.filename or destination), error.strerror) from error
    return plan


def _keep(cache: PlanCache, key: str, plan: Plan, path: Path) -> None:
    """Keep a plan. It took minutes and is sound, so a cache that is full or out of reach does not end the export."""
    try:
        cache.keep(key, plan, path)
    except OSError as error:
        logger.warning("the plan could not be kept in %s: %s", cache.folder, error.strerror or error)


def _device(target: Target) -> str:
    """What the plan is for, as a cache must tell it: "current" is another GPU on another machine."""
    return _capability(target) if target.capability else f"{torch.cuda.get_device_name()}, {_capability(target)}"


def _capability(target: Target) -> str:
    if target.capability is not None:
        return target.capability.lower()
    major, minor = torch.cuda.get_device_capability()
    return f"sm{major}{minor}"


def _say_nothing(doing: str, share: float) -> None:
    """Nobody asked how far the build is."""
    del doing, share
