"""Every preset's whole loop on the shipped model, in ONNX Runtime beside eager: is it the same, and what does it run?

No time is measured. Each step of both loops is compared; of the single graph's loop, ONNX Runtime's own profile says
how many matrix products a step ran.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from common import argument_parser
from diffusers import DiTTransformer2DModel
from results import Check, Column, Result, last_rows, provenance
from torch import Tensor

import fouriercache as fc
from fouriercache.capture import Capture, capture
from fouriercache.models.demo import SHAPE, load_demo_calibration, load_demo_model, load_demo_scheduler, sample
from fouriercache.optimize import optimize_captured
from fouriercache.presets import PRESETS

ALLOWED = 1e-4
"""Largest difference in any step, over the largest value of that step."""
PRODUCTS = {"MatMul", "Gemm", "FusedMatMul", "Conv", "FusedConv", "Attention", "MultiHeadAttention"}
CALIBRATED = "Tuned, as calibrated for 10 of 50 steps"
OTHERS: Mapping[str, Callable[[], fc.Method]] = {
    "ToCa, as published": lambda: fc.ToCa(published=True),
    "ToCa, fixed counts": lambda: fc.ToCa(tokens=fc.TopK(fc.TokenNorm(), fc.FixedCounts((16,)))),
    "Tuned with Prony": lambda: fc.Tuned().with_(predictor=fc.Prony()),
    "TaylorSeer, truncated DCT": lambda: fc.TaylorSeer(site="stack", codec=fc.LowPass(0.25)),
}
"""What presets have behind keywords, and ones of our own."""
COLUMNS = (
    Column("name", "method"),
    Column("form", "form"),
    Column("computed", "computed steps", "d"),
    Column("same", "the same steps as eager"),
    Column("worst", "worst difference of a step", ".1e"),
    Column("final", "of the last", ".1e"),
    Column("products_computed", "matrix products, computed step", "d"),
    Column("products_cached", "cached step", "d"),
)


@dataclass(frozen=True)
class Subject:
    """What loops run on: the model, one call, and the capture that all methods begin with."""

    model: Any
    call: dict[str, Tensor]
    captured: Capture
    steps: int

    @classmethod
    def make(cls, *, quick: bool) -> Subject:
        """The shipped model; with `quick`, one block of random weights that takes the same calls."""
        torch.manual_seed(0)
        model: Any = load_demo_model()
        if quick:
            model = DiTTransformer2DModel(num_attention_heads=2, attention_head_dim=8, in_channels=3, num_layers=1,
                                          sample_size=SHAPE[-1], patch_size=4, num_embeds_ada_norm=10)  # fmt: skip
            model.eval()
        call = {"hidden_states": torch.zeros(2, *SHAPE), "timestep": torch.tensor([500, 500]),
                "class_labels": torch.tensor([0, 1])}  # fmt: skip
        return cls(model, call, capture(model, call), 8 if quick else 50)

    def optimize(self, name: str) -> fc.OptimizedModule:
        """The model under a method, from the one capture."""
        if name == CALIBRATED:
            return fc.optimize(self.model, fc.Tuned(), calibration=load_demo_calibration(10), example_inputs=self.call)
        method = OTHERS[name]() if name in OTHERS else PRESETS[name]()
        return optimize_captured(self.model, self.captured, method, example_inputs=self.call, num_steps=self.steps)

    def loop(self, model: Any) -> list[Tensor]:
        """The images so far after each step; guided, so a call has two samples."""
        found: list[Tensor] = []
        noise = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0))
        sample(model, load_demo_scheduler(), torch.tensor([3]), noise, num_steps=self.steps,
               on_step=lambda _, images: found.append(images.clone()))  # fmt: skip
        return found


def compare(subject: Subject, name: str, folder: Path) -> list[dict[str, Any]]:
    """The rows of one method: a graph for each mode, and the single graph where there is one."""
    fast = subject.optimize(name)
    want = subject.loop(fast)
    computed = fast.session.computed_steps[0]
    form = fc.export(fast, folder / "bundle").forms[0]
    rows = []
    for single in (False, True) if form.single is not None else (False,):
        bundled = fc.load(folder / "bundle", single_graph=single, profile=folder if single else None)
        have = subject.loop(bundled)
        row = {
            "name": name,
            "form": "one graph with an If" if single else "a graph for each mode",
            "computed": len(computed),
            "same": bundled.session.computed_steps[0] == computed,
            "worst": max(difference(one, other) for one, other in zip(have, want, strict=True)),
            "final": difference(have[-1], want[-1]),
            "products_computed": None,
            "products_cached": None,
        }
        if single:
            profiles = [
                path for path in bundled.finish_profiles() if path.name.startswith("step")
            ]  # a probe has its own
            counts = products_of(*profiles)
            row["products_computed"] = min(counts[step] for step in computed)
            row["products_cached"] = max(count for step, count in enumerate(counts) if step not in computed)
        rows.append(row)
    return rows


def difference(value: Tensor, reference: Tensor) -> float:
    """The largest difference over the largest value."""
    return float((value.double() - reference.double()).abs().amax() / reference.double().abs().amax())


def products_of(profile: Path) -> list[int]:
    """How many matrix products each run of a session ran, in order, as ONNX Runtime's profile has it."""
    events = json.loads(profile.read_text())
    runs = sorted((event["ts"], event["ts"] + event["dur"]) for event in events if event["name"] == "model_run")
    nodes = [event["ts"] for event in events if event.get("args", {}).get("op_name") in PRODUCTS]
    return [sum(begin <= moment <= end for moment in nodes) for begin, end in runs]


def made() -> dict[str, str]:
    """When a row was measured, and on what commit: a table may be of several runs."""
    return {key: value for key, value in provenance().items() if key in ("began", "ended", "commit")}


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--resume", action="store_true", help="keep the rows of the last run, measure the rest")
    asked = parser.parse_args()
    subject = Subject.make(quick=asked.quick)
    names = ["FORA"] if asked.quick else [*PRESETS, *OTHERS, CALIBRATED]
    kept = last_rows("ort_presets", asked.out) if asked.resume else []
    result = Result(
        "ort_presets",
        "Loops of every preset on the shipped model: ONNX Runtime beside eager",
        f"A guided trajectory of {subject.steps} steps, each preset with its defaults, in ONNX Runtime's CPU provider "
        "and in eager torch. A difference is the largest in any value of the images so far, over the largest value. Of "
        "the single graph, the matrix products that a step ran, as ONNX Runtime's own profile has them: the fewest of "
        "a computed step, the most of a cached one. Methods that choose tokens or single sites have no single graph.",
        {"model": type(subject.model).__name__, "parameters": sum(p.numel() for p in subject.model.parameters()),
         "batch": 2, "steps": subject.steps, "dtype": "float32", "threads": torch.get_num_threads()},
        COLUMNS,
    )  # fmt: skip
    for name in names:
        found = [row for row in kept if row["name"] == name]
        if not found:
            with tempfile.TemporaryDirectory() as folder:
                found = [row | made() for row in compare(subject, name, Path(folder))]
        for row in found:
            result.rows.append(row)
            result.checks.append(Check(f"{name}, {row['form']}: worst difference", row["worst"], ALLOWED))
            result.checks.append(Check(f"{name}, {row['form']}: other steps computed", float(not row["same"]), 0))
            if row["products_cached"] is not None:
                share = row["products_cached"] / row["products_computed"]
                result.checks.append(Check(f"{name}, {row['form']}: cached step's share of products", share, 0.75))
        result.write_files(asked.out)
    result.write(asked.out)


if __name__ == "__main__":
    main()
