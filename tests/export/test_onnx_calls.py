"""Programs are decomposed for ONNX where they must be, and not traced again where there is nothing to decompose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import fouriercache as fc
from fouriercache.capture import capture
from fouriercache.export.onnx_graph import translate
from fouriercache.models import zoo
from fouriercache.program import Program

pytestmark = pytest.mark.ort

WIDTH = 8


class Rewritten(nn.Module):
    """Every call that is written in others for ONNX."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(WIDTH, eps=1e-3, dtype=dtype)
        self.bare = nn.RMSNorm((4, WIDTH), elementwise_affine=False)
        self.frequencies = nn.Buffer(torch.linspace(0.1, 1, WIDTH))
        with torch.no_grad():
            self.norm.weight.copy_(torch.linspace(-1, 2, WIDTH))

    def forward(self, hidden_states: Tensor, timestep: Tensor) -> Tensor:
        angles = torch.outer(timestep.to(torch.float32), self.frequencies)
        late = (angles > 0.5) & (angles < 3)
        scale = torch.rsub(torch.where(late, angles.cos(), angles.sin()), 2, alpha=3) - torch.rsub(angles, 1)
        x = self.norm(hidden_states)
        result: Tensor = self.bare(x + scale.to(x.dtype)[:, None])
        return result


class Rotated(nn.Module):
    """Rotary embeddings of complex numbers, taken apart and moved as video models do."""

    def __init__(self) -> None:
        super().__init__()
        angles = torch.linspace(0, 3, 6 * WIDTH).reshape(6, WIDTH)
        self.turns = nn.Buffer(torch.polar(torch.ones_like(angles), angles))

    def forward(self, hidden_states: Tensor, timestep: Tensor) -> Tensor:
        rows = self.turns[torch.tensor([3, 0, 5, 1])]
        first, second = rows.split([WIDTH // 4, WIDTH - WIDTH // 4], dim=1)
        rows = torch.cat([second, first], dim=1).view(2, 2, WIDTH).expand(2, 2, WIDTH).reshape(4, WIDTH)
        pairs = torch.view_as_complex(hidden_states.unflatten(-1, (WIDTH // 2, 2)))
        turned = pairs * rows[:, : WIDTH // 2].unsqueeze(0)
        return torch.view_as_real(turned).flatten(2) + timestep[:, None, None]


class Decomposed(nn.Module):
    """A call that torch decomposes."""

    def forward(self, hidden_states: Tensor, timestep: Tensor) -> Tensor:
        rows, columns = torch.meshgrid(torch.arange(4), torch.arange(WIDTH), indexing="ij")
        return hidden_states * (rows + columns) + timestep[:, None, None]


def captured(model: nn.Module, dtype: torch.dtype) -> tuple[Program, tuple[Tensor, Tensor]]:
    call = {"hidden_states": torch.randn(2, 4, WIDTH, dtype=dtype), "timestep": torch.tensor([1, 3])}
    return capture(model.eval(), call).program, (call["hidden_states"], call["timestep"])


def in_onnx_runtime(program: Program, values: tuple[Tensor, Tensor]) -> Tensor:
    import onnx_ir
    import onnxruntime

    written = onnx_ir.to_proto(translate(program)).SerializeToString()
    session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    (found,) = session.run(None, {name: value.numpy() for name, value in zip(names, values, strict=True)})
    return torch.from_numpy(np.asarray(found))


@pytest.fixture
def decompositions(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every whole trace by which a program is decomposed."""
    seen: list[object] = []
    whole = torch.export.ExportedProgram.run_decompositions

    def run(exported: Any, table: Any = None) -> Any:
        seen.append(table)
        return whole(exported, table)

    monkeypatch.setattr(torch.export.ExportedProgram, "run_decompositions", run)
    return seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_calls_are_written_in_known_ones_and_nothing_is_traced_again(dtype: torch.dtype, decompositions: list[object]):
    model = Rewritten(dtype)
    program, values = captured(model, dtype)
    decompositions.clear()
    found = in_onnx_runtime(program, values)
    assert decompositions == []
    rounding = 1e-5 if dtype == torch.float32 else 2e-3
    torch.testing.assert_close(found, model(*values), rtol=rounding, atol=rounding)


def test_complex_numbers_are_moved_as_pairs():
    model = Rotated()
    program, values = captured(model, torch.float32)
    torch.testing.assert_close(in_onnx_runtime(program, values), model(*values))


def test_what_is_not_known_is_decomposed(decompositions: list[object]):
    model = Decomposed()
    program, values = captured(model, torch.float32)
    decompositions.clear()
    found = in_onnx_runtime(program, values)
    assert len(decompositions) == 1
    torch.testing.assert_close(found, model(*values))


@pytest.mark.slow
def test_complex_numbers_pass_from_graph_to_graph_of_a_bundle_as_pairs(tmp_path: Path):
    model, call = zoo.build("AnyFlowTransformer3DModel")
    fast = fc.optimize(model, fc.TaylorSeer(2, 1, site="stack"), num_steps=4, example_inputs=call)
    fc.export(fast, tmp_path / "bundle", single_graph=False)
    bundled, session = fc.load(tmp_path / "bundle", threads=1), fast.new_session()
    for timestep in (900, 600, 300, 0):
        inputs = {**call, "timestep": torch.full_like(call["timestep"], timestep)}
        with torch.no_grad():
            (want,), (have,) = (pytree.tree_leaves(run(**inputs)) for run in (session, bundled))
        torch.testing.assert_close(have, want, rtol=1e-4, atol=1e-4 * float(want.abs().max()))
