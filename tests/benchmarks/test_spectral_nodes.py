"""What H9 times: spectral nodes as a step runs them, and the verdict that their shares give."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import spectral_cost
import torch
from hypotheses import h9_cost
from results import Result
from spectral_nodes import Node, method_nodes
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = ("mm", "bmm")
MAKING = {"arange", "cos", "sin", "_fft_c2c", "_fft_r2c", "eye", "zeros", "linspace"}


class CountNames(TorchDispatchMode):
    """Counts the ATen calls by name."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.found[func.overloadpacket.__name__] += 1
        return func(*args, **kwargs or {})


def calls(run: Callable[[], Any]) -> Counter[str]:
    names = CountNames()
    with names:
        run()
    return names.found


def row(node: str, percent: float, *, is_in_preset: bool, over_fft: float | None = None) -> Mapping[str, Any]:
    plain = {key: {"median": 1.0} for key in ("ms", "plain_ms", "fft_ms")}
    shares = {"step_percent": {"median": percent}, "all_percent": {"median": 4 * percent}}
    over = None if over_fft is None else {"median": over_fft}
    return {"grid": "3 x 4", "node": node, "most": 4, "is_in_preset": is_in_preset, "over_fft": over, **plain, **shares}


def find(folder: Path, *rows: Mapping[str, Any]) -> Any:
    """What H9 finds in rows that were measured before."""
    kept = {"about": "Times.", "settings": {"model": "DiT", "batch": 2}, "rows": rows}
    (folder / "spectral nodes 3.json").write_text(json.dumps(kept))
    lab: Any = SimpleNamespace(folder=folder, steps=3)
    return h9_cost.find(lab)


@pytest.mark.parametrize("grid", [(3, 4), (2, 3, 2)])
def test_a_node_has_its_products_more_than_the_same_without_a_transform(grid: tuple[int, ...]):
    x = torch.randn(2, 12, 8)
    found = {}
    for node in method_nodes(grid, x):
        if "anew" in node.name:
            continue
        assert node.plain is not None
        have, plain = calls(node.call), calls(node.plain)
        assert not MAKING & have.keys(), f"{node.name} makes its basis at every step"
        found[node.name] = sum(have[name] - plain[name] for name in PRODUCTS)
    axes = len(grid)
    assert list(found.values()) == [axes, axes, axes, 2 * axes, 2 * axes, axes]


def test_a_share_is_the_extra_time_over_the_step_and_all_are_as_many_as_a_step_has():
    result = Result("r", "R", "", {}, ())
    node = Node("score", "block", lambda: None, lambda: None)
    spectral_cost._add(result, "3 x 4", node, 12, [(0.5, 0.25, None)] * 3, [100.0] * 3)
    assert result.rows[0]["step_percent"]["median"] == pytest.approx(0.25)
    assert result.rows[0]["all_percent"]["median"] == pytest.approx(12 * 0.25)
    assert [check.value for check in result.checks] == [pytest.approx(0.0025)]


def test_the_verdict_is_that_of_presets_and_an_option_above_the_limit_is_named(tmp_path: Path):
    preset, option = row("expand", 0.5, is_in_preset=True, over_fft=1.2), row("score", 2.5, is_in_preset=False)
    adopted = find(tmp_path, preset, option)
    assert adopted.verdict == "adopted"
    assert "above it score on 3 x 4 (2.50 %)" in adopted.decided_by
    assert "in 1 of 1 cases" in adopted.decided_by
    refuted = find(tmp_path, row("expand", 1.5, is_in_preset=True, over_fft=0.5), row("score", 0.1, is_in_preset=False))
    assert refuted.verdict == "refuted"
    assert "most 6.00 % (4 of expand" in refuted.decided_by
