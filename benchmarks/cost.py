"""The cost model's counts against what ATen is asked to do: FLOPs, launches and bytes of every model of the zoo.

Predicted: `fast.report.cost`, from the graph. Measured: the same step runs, while torch's FlopCounterMode counts its
arithmetic and a dispatch mode its calls and their tensors.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.attention.flex_attention as flex
from common import argument_parser
from launches import CountCalls, CountFlex
from results import Check, Column, Result, Row
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

import fouriercache as fc
from fouriercache.calls import Binder
from fouriercache.capture import capture
from fouriercache.cost import Work, hinted, work_of
from fouriercache.errors import OptimizeError
from fouriercache.models import zoo
from fouriercache.passes.pipeline import build_steps
from fouriercache.program import NoMatch, Program, tensor_of

FORWARD, REFUSED = "the model's forward", "refused"
QUICK = ("DiTTransformer2DModel", "FluxTransformer2DModel")
METHOD = fc.TaylorSeer(interval=5, order=1)
LIMIT = 0.1
"""Largest relative difference of a count to what was measured."""
DEVICE = fc.Device("a CPU", {"float32": 1.0, "bfloat16": 1.0}, 1.0, fused_norms=False)
"""Counts depend on a device in one thing alone: whether it has a kernel for RMS norm."""


def attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: object, **__: object) -> int:
    """Torch's own formula for fused attention, from shapes."""
    return int(sdpa_flop_count(query, key, value))


ATTENTION = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops}
"""Torch's counter has a formula for fused attention on CUDA alone."""

COLUMNS = (
    Column("class", "class"),
    Column("step", "step"),
    Column("flops", "FLOPs", ",d"),
    Column("flops_measured", "measured", ",d"),
    Column("launches", "launches", "d"),
    Column("launches_measured", "measured", "d"),
    Column("moved", "bytes moved", ",d"),
    Column("moved_measured", "measured", ",d"),
    Column("largest", "largest difference, %", ".2f"),
)

ABOUT = (
    "Each row is one kind of step of one class: the model itself, its captured graph, a computed step, and a step that "
    "reuses every branch, all with random weights and two blocks in each list. *Measured* is what was counted while "
    "they ran: FLOPs by torch's own FlopCounterMode, launches and bytes by a dispatch mode that sees every call of "
    "ATen and its tensors. The forward is predicted from the captured graph: where the graph makes a whole tensor to "
    "change a part of it, the model writes into the part; what the model computes for nobody, no graph has. Some "
    "classes keep what an earlier forward made, such as tables of rotary embeddings. A graph does not show that, but "
    "capture sees it where the model runs, and the forward is predicted without what is kept. torch.export or "
    "`optimize` refuses some classes; then there is no prediction, and the row says why. flex_attention counts as one "
    "launch, everywhere, as where there is a kernel for it: while it is counted, torch does not compile it, which it "
    "cannot under a dispatch mode."
)


def main() -> None:
    parser = argument_parser(__doc__, quick="two classes, for the tests")
    parser.add_argument("--only", nargs="+", metavar="CLASS", help="these classes alone")
    given = parser.parse_args()
    names = given.only or (QUICK if given.quick else tuple(zoo.EXAMPLES))
    rows: list[Row] = []
    for number, name in enumerate(names):
        print(f"{number + 1} of {len(names)}: {name}", flush=True)
        rows += measure(name)
    good = [row for row in rows if row["flops_measured"] is not None]
    checks = []
    judged = {
        "the models' own forwards": [row for row in good if row["step"] == FORWARD],
        "graphs": [row for row in good if row["step"] != FORWARD],
    }
    for whose, mine in judged.items():
        for what in ("flops", "launches", "moved"):
            found = [difference(row, what) for row in mine]
            checks.append(Check(f"{whose}: largest relative difference of {what}", max(found, default=1.0), LIMIT))
    classes = len({row["class"] for row in good})
    refused = sum(row["step"].startswith(REFUSED) for row in rows)
    checks.append(Check("classes without counts, those that are refused among them", len(names) - classes, 0))
    settings = {"classes": classes, "refused": refused, "of": len(names), "method": repr(METHOD)}
    Result("cost", "The cost model's counts, and what was counted while steps ran", ABOUT, settings, COLUMNS, rows,
           checks).write(given.out)  # fmt: skip


def measure(name: str) -> list[dict[str, Any]]:
    """The rows of one class; one row that says so where it is refused, or cannot be counted."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return measure_steps(name)
        except (OptimizeError, NotImplementedError, RuntimeError, AssertionError) as error:  # torch's counters assert
            why = REFUSED if isinstance(error, OptimizeError) else "not counted"
            what = f"{why}, {type(error).__name__}: {str(error).splitlines()[0]}"
            print(f"  {what}", flush=True)
            return [_row(name, what, None, None)]


def measure_steps(name: str) -> list[dict[str, Any]]:
    """The rows of one class."""
    model, call = build(name)
    forward = observe(lambda: model(**call))
    found = capture(model, call, fixed=NoMatch("one batch size is enough to count"))
    steps = build_steps(found, METHOD)
    tensors = Binder(model).flatten(call).tensors
    known = dict(zip((given.name for given in found.program.inputs), tensors, strict=True))
    original = work_of([found.program], DEVICE, is_model=True, kept=found.kept)
    return [
        _row(name, FORWARD, original, forward),
        _row(name, "captured graph", work_of([found.program], DEVICE), observe(runner(found.program, known))),
        *(
            _row(name, mode, work_of([parts.whole], DEVICE), observe(runner(parts.whole, known)))
            for mode, parts in steps.modes.items()
        ),
    ]


def build(name: str) -> tuple[Any, dict[str, Any]]:
    """A model that has not run yet, and a call of it."""
    model, call = zoo.build(name)
    model.requires_grad_(False)  # torch's counter asks weights among a block's inputs for their gradients
    return model, Binder(model).example(call)  # in the order of the signature, as an optimised module has them


def runner(program: Program, known: Mapping[str, Tensor]) -> Callable[[], object]:
    """What runs a program: on the call's tensors, and ones for all that is kept."""
    module = program.module()
    values = []
    for node in program.placeholders:
        like = tensor_of(node)
        assert like is not None
        made = torch.ones([hinted(size) for size in like.shape], dtype=like.dtype)
        values.append(known.get(node.name, made))
    return lambda: module(*values)


@torch.no_grad()
def observe(step: Callable[[], object]) -> Work:
    """What ATen is asked to do in a step, after one that makes what is made once."""
    step()
    with patch.object(flex, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True):
        with CountCalls() as calls:
            step()
        with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter, CountFlex() as inside:
            step()
    return Work(counter.get_total_flops() + inside.flops, calls.launches, calls.moved)


def _row(name: str, step: str, predicted: Work | None, measured: Work | None) -> dict[str, Any]:
    row: dict[str, Any] = {"class": name, "step": step}
    for what in ("flops", "launches", "moved"):
        row[what] = None if predicted is None else getattr(predicted, what)
        row[f"{what}_measured"] = None if measured is None else getattr(measured, what)
    is_known = measured is not None
    row["largest"] = 100 * max(difference(row, what) for what in ("flops", "launches", "moved")) if is_known else None
    return row


def difference(row: Mapping[str, Any], what: str) -> float:
    """Of a prediction to what was measured, relative to that."""
    have, want = row[what], row[f"{what}_measured"]
    return abs(have - want) / want if want else float(have != want)


if __name__ == "__main__":
    main()
