"""The shipped video model, its loader, its sampling loop, and caching on it."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import moving_shapes
import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from torch import Tensor

import fouriercache as fc
from fouriercache.errors import WeightsError
from fouriercache.models import demo_video

WEIGHTS = "diffusion_pytorch_model.safetensors"
LABELS = torch.tensor([0, 4])


@pytest.fixture(scope="module")
def model() -> WanTransformer3DModel:
    return demo_video.load_video_model()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_video.FOLDER, tmp_path / "demo_video"))


def noise(seed: int = 0, count: int = 2) -> Tensor:
    return torch.randn(count, *demo_video.SHAPE, generator=torch.Generator().manual_seed(seed))


def draw(model: Any, labels: Tensor = LABELS, steps: int = 2, guidance: float = demo_video.GUIDANCE) -> Tensor:
    scheduler, embeddings = demo_video.load_video_scheduler(), demo_video.load_class_embeddings()
    return demo_video.sample(
        model, scheduler, embeddings, labels, noise(count=len(labels)), num_steps=steps, guidance=guidance
    )


def test_model_is_ready_to_sample(model: WanTransformer3DModel):
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in model.parameters())
    assert all(p.isfinite().all() for p in model.parameters())


def test_model_takes_the_documented_classes_and_shape(model: WanTransformer3DModel):
    config: Any = model.config
    assert demo_video.CLASS_NAMES == moving_shapes.CLASSES
    assert len(demo_video.CLASS_NAMES) == demo_video.NULL_CLASS
    assert (3, moving_shapes.FRAMES, moving_shapes.SIZE, moving_shapes.SIZE) == demo_video.SHAPE
    assert demo_video.load_class_embeddings().shape == (demo_video.NULL_CLASS + 1, 2, config.text_dim)
    assert tuple(config.patch_size) == (1, 4, 4)


def test_classes_of_one_shape_or_motion_share_its_word():
    words = demo_video.load_class_embeddings()
    for label in range(demo_video.NULL_CLASS):
        assert torch.equal(words[label, 0], words[label - label % 3, 0])
        assert torch.equal(words[label, 1], words[label % 3, 1])
    assert len(words.flatten(0, 1).unique(dim=0)) == 7


def test_loading_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    demo_video.load_video_model()
    assert torch.equal(torch.rand(4), expected)


def test_weights_are_small_enough_to_ship():
    assert (demo_video.FOLDER / WEIGHTS).stat().st_size < 16 * 2**20


@pytest.mark.parametrize("name", [WEIGHTS, "config.json", "classes.safetensors", "scheduler/scheduler_config.json"])
def test_missing_or_changed_file_is_named(copied: Path, name: str):
    path = copied / name
    path.write_bytes(path.read_bytes() + b" ")
    for load in (demo_video.load_video_model, demo_video.load_video_scheduler, demo_video.load_class_embeddings):
        with pytest.raises(WeightsError, match=f"(?s)cut short or changed.*{path.name}"):
            load(copied)
    path.unlink()
    with pytest.raises(WeightsError, match=f"missing: .*{path.name}"):
        demo_video.load_video_model(copied)


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_sample_equals_a_loop_written_by_hand(model: WanTransformer3DModel, guidance: float):
    # Flow matching by Euler's rule: x <- x + (s' - s) v at the levels s of an even schedule from 1 to 0.
    videos = noise().double()
    words = demo_video.load_class_embeddings()
    scheduler: Any = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(3)
    levels = scheduler.sigmas.double()
    assert (levels[0], levels[-1]) == (1, 0)
    for now, then in pairwise(levels):
        parts = []
        for classes in (LABELS, torch.tensor([9, 9])):
            call = {"timestep": 1000 * now.float().expand(2), "encoder_hidden_states": words[classes]}
            with torch.no_grad():
                parts.append(model(hidden_states=videos.float(), **call).sample.double())
        videos = videos + (then - now) * (parts[1] + guidance * (parts[0] - parts[1]))
    found = draw(model, steps=3, guidance=guidance)
    torch.testing.assert_close(found.double(), videos, rtol=0, atol=1e-4)  # the scheduler's own table is float32


def test_samples_differ_by_class_and_by_guidance(model: WanTransformer3DModel):
    first = draw(model)
    assert (first - draw(model, LABELS.flip(0))).abs().max() > 1e-2
    assert (first - draw(model, guidance=4.0)).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("labels", "start", "message"),
    [
        (LABELS, noise(count=3), r"labels must be int64 \[3\]"),
        (torch.tensor([0, 10]), noise(), r"0\.\.9, got \[0, 10\]"),
        (LABELS, noise()[:, :, :4], r"\[n, 3, 8, 24, 24\].*\[2, 3, 4, 24, 24\]"),
        (LABELS, noise().long(), "noise must be a floating point"),
    ],
)
def test_inputs_that_do_not_fit_are_named(model: WanTransformer3DModel, labels: Tensor, start: Tensor, message: str):
    scheduler, embeddings = demo_video.load_video_scheduler(), demo_video.load_class_embeddings()
    with pytest.raises(ValueError, match=message):
        demo_video.sample(model, scheduler, embeddings, labels, start)


@pytest.mark.slow
def test_interval_1_computes_the_video_of_the_model_bit_for_bit(model: WanTransformer3DModel):
    fast = fc.optimize(model, fc.FORA(interval=1), num_steps=3)
    assert torch.equal(draw(fast, steps=3), draw(model, steps=3))
    grid = fast.program("canonical").grid
    assert grid == fc.TokenGrid(8, 6, 6)
    assert len(fast.report.sites) == 3 * 6  # attention over the video, attention to the class, MLP


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", [fc.FORA(2), fc.TaylorSeer(2, order=1), fc.FreqCa(2, order=1, warmup=1)], ids=lambda method: method.name
)
def test_published_methods_run_and_stay_near(model: WanTransformer3DModel, method: fc.Method):
    fast = fc.optimize(model, method, num_steps=8)
    have, want = draw(fast, steps=8), draw(model, steps=8)
    error = (have - want).norm() / want.norm()
    assert 0 < error < 0.5
    assert len(next(iter(fast.session.computed_steps.values()))) < 8


def test_figures_of_the_card_belong_to_the_weights():
    manifest = json.loads((demo_video.FOLDER / "manifest.json").read_text())["files"]
    metrics = json.loads((demo_video.FOLDER / "metrics.json").read_text())
    assert metrics["weights_sha256"] == manifest[WEIGHTS]
    assert f"`{manifest[WEIGHTS][:12]}`" in (demo_video.FOLDER / "README.md").read_text()
