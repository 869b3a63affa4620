"""`assert_graph_matches`: the graphs are what a file of the repository says they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fouriercache.errors import GoldenError
from fouriercache.paths import path_of
from fouriercache.testing.golden import Golden, read_golden
from fouriercache.testing.mismatch import GraphMismatch, describe, differences
from fouriercache.testing.record import Subject, golden_of


def assert_graph_matches(
    subject: Subject,
    path: str | Path,
    *,
    update: bool = False,
    spec: str | None = None,
    how: str = "pass update=True once, and look at the difference",
) -> bool:
    """Compare the rewritten graphs with a golden file: sites, refusals, costs of each kind of step, and their texts.

    Needs no GPU and no weights: a model on the meta device, captured by `optimize(..., example_inputs=...)`, will do.
    The text does not depend on the machine, the device or the names that torch gives nodes; what torch.export makes of
    a model can change with torch.

    Args:
        subject: an optimised module, whose last capture is compared, one program of it, or an exported bundle,
            loaded or by its folder: of that, the ONNX graphs, the weights and the facts of TensorRT plans are compared.
        path: the golden file.
        update: write the file instead, if it is missing or says otherwise.
        spec: how `fouriercache check` builds the model again, see there; an update keeps what the file says.
        how: what a user does to accept the new graphs; it ends the message.

    Returns:
        Whether the file was written.

    Raises:
        GraphMismatch: the graphs are not those of the file, or it is not there and `update` is false.
        GoldenError: the file is no golden, and `update` is false; or it cannot be written; or the subject is none of
            these.
        NotCapturedError: nothing has been captured yet.
        BundleError, MissingExtraError: the folder is no sound bundle, or the extra `onnx` is not installed.
    """
    __tracebackhide__ = True
    place, now = path_of(path), golden_of(subject, spec)
    if not place.exists():
        if not update:
            raise GraphMismatch(f"There is no golden {place} yet.\n  To make it: {how}")
        now.write(place)
        return True
    if update:
        return _update(place, now)
    golden = read_golden(place)
    if differences(golden, now):
        raise GraphMismatch(describe(golden, now, str(place), how))
    return False


def _update(place: Path, now: Golden) -> bool:
    try:
        golden = read_golden(place)
    except GoldenError:
        golden = None  # an update replaces what cannot be read
    if golden is not None:
        if not differences(golden, now):
            return False
        if "spec" in golden.head and "spec" not in now.head:
            now = replace(now, head={**now.head, "spec": golden.head["spec"]})
    now.write(place)
    return True
