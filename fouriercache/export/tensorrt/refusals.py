"""What a build was refused for, as an error that says which node, why, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fouriercache.errors import LoweringError
from fouriercache.tensorrt_library import Library

_SHOWN = 8
"""Nodes that are shown of those the parser does not take."""

_Facts = Mapping[str, Any]


def refusal(facts: _Facts, library: Library, onnx: Path, tail: str) -> LoweringError:
    """Return the error for what the worker refused; `tail` is the end of the builder's log."""
    match facts["why"]:
        case "parser":
            return _not_taken(facts["errors"], library, onnx)
        case "sizes":
            return _open_sizes(facts, onnx)
        case "write":
            return no_room(Path(facts["plan"]).parents[1], f"{facts['text']}; it has {facts['bytes']:,} bytes")
        case "capability":
            return LoweringError(f"{library} does not build for this target after all.\n{tail}")
        case _:
            return LoweringError(f"{library} parsed {onnx.name} and built no plan of it.\n{tail}")


def no_room(destination: Path, reason: str | None) -> LoweringError:
    """Return the error for a plan that could not be written."""
    return LoweringError(
        f"the plan could not be written: {reason}.\n  where: {destination}\n"
        "  Make room or name another folder; nothing half-written was left."
    )


def _not_taken(found: Sequence[_Facts], library: Library, onnx: Path) -> LoweringError:
    errors = list({tuple(sorted(error.items())): error for error in found}.values())
    shown = [line for error in errors[:_SHOWN] for line in _lines_of(error)]
    more = [f"  and {len(errors) - _SHOWN} more"] if len(errors) > _SHOWN else []
    return LoweringError("\n".join([f"{library} does not take {onnx.name}.", *shown, *more]))


def _lines_of(error: _Facts) -> Sequence[str]:
    cause = " ".join(error["cause"].split())
    if "Plugin not found" in cause:
        cause = f"the parser has no operator {error['op']}, and there is no plugin of that name"
    at = f"  node: {error['node'] or 'without a name'} ({error['op']}), number {error['index']}"
    return [*([at] if error["index"] >= 0 else []), f"    {error['code']}: {cause}"]


def _open_sizes(facts: _Facts, onnx: Path) -> LoweringError:
    return LoweringError(
        f"{onnx.name} leaves sizes open that are not the batch: {', '.join(facts['names'])}.\n"
        + "\n".join(f"  input {place}" for place in facts["places"])
        + "\n  A plan has one batch, the first axis of its inputs. Export at fixed resolutions, or give ranges: sizes=."
    )
