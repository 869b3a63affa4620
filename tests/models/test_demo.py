"""The shipped model, its loader, and the sampling loop."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import shapes
import torch
from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

import fouriercache as fc
from fouriercache.errors import CalibrationError, WeightsError
from fouriercache.fingerprints import fingerprint_scheduler
from fouriercache.models import demo

WEIGHTS = "diffusion_pytorch_model.safetensors"
LABELS = torch.tensor([0, 7])


@pytest.fixture(scope="module")
def model() -> DiTTransformer2DModel:
    return demo.load_demo_model()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo.FOLDER, tmp_path / "demo_dit"))


def noise(seed: int = 0, count: int = 2) -> Tensor:
    return torch.randn(count, *demo.SHAPE, generator=torch.Generator().manual_seed(seed))


def count_calls(model: DiTTransformer2DModel, guidance: float, num_steps: int) -> list[int]:
    """Sample once; return the batch of each call of the model."""
    batches: list[int] = []
    watch = model.register_forward_pre_hook(lambda module, inputs: batches.append(inputs[0].shape[0]))
    demo.sample(model, demo.load_demo_scheduler(), LABELS, noise(), num_steps=num_steps, guidance=guidance)
    watch.remove()
    return batches


def test_model_is_ready_to_sample(model: DiTTransformer2DModel):
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in model.parameters())
    assert all(p.isfinite().all() for p in model.parameters())


def test_model_takes_the_documented_classes_and_shape(model: DiTTransformer2DModel):
    config: Any = model.config
    assert (config.in_channels, config.sample_size, config.sample_size) == demo.SHAPE
    assert config.num_embeds_ada_norm == len(demo.CLASS_NAMES) == demo.NULL_CLASS
    assert (config.sample_size // config.patch_size) ** 2 == 256


def test_class_names_are_those_of_the_images_it_was_trained_on():
    assert demo.CLASS_NAMES == shapes.CLASSES


def test_loading_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    demo.load_demo_model()
    assert torch.equal(torch.rand(4), expected)


def test_loading_opens_no_connection(monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    demo.load_demo_model()
    demo.load_demo_scheduler()


def test_weights_are_small_enough_to_ship():
    assert (demo.FOLDER / WEIGHTS).stat().st_size < 16 * 2**20


@pytest.mark.parametrize("name", [WEIGHTS, "config.json", "scheduler/scheduler_config.json", "manifest.json"])
def test_missing_file_is_named(copied: Path, name: str):
    (copied / name).unlink()
    with pytest.raises(WeightsError, match=f"missing: .*{Path(name).name}"):
        demo.load_demo_model(copied)
    with pytest.raises(WeightsError, match="restore the file"):
        demo.load_demo_scheduler(copied)


def test_truncated_weights_are_refused_before_they_are_read(copied: Path):
    path = copied / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(WeightsError, match=f"cut short or changed.*\n.*{WEIGHTS}, {path.stat().st_size} bytes"):
        demo.load_demo_model(copied)


def test_one_changed_bit_is_noticed(copied: Path):
    content = bytearray((copied / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (copied / WEIGHTS).write_bytes(content)
    with pytest.raises(WeightsError, match=r"recorded: [0-9a-f]{64}\n  found:    [0-9a-f]{64}"):
        demo.load_demo_model(copied)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": '])
def test_unreadable_manifest_is_named(copied: Path, text: str):
    (copied / "manifest.json").write_text(text)
    with pytest.raises(WeightsError, match=r"manifest cannot be read.*\n.*manifest\.json"):
        demo.load_demo_model(copied)


@pytest.mark.parametrize("guidance", [1.0, 2.5])
def test_sample_equals_a_loop_written_by_hand(model: DiTTransformer2DModel, guidance: float):
    scheduler = DDIMScheduler(beta_schedule="linear", prediction_type="v_prediction", clip_sample=False)
    scheduler.set_timesteps(4)
    images = noise()
    with torch.no_grad():
        for t in scheduler.timesteps:
            if guidance == 1:
                v = model(images, timestep=t.expand(2), class_labels=LABELS).sample
            else:
                classes = torch.tensor([0, 7, 10, 10])
                both = model(torch.cat([images, images]), timestep=t.expand(4), class_labels=classes).sample
                v = both[2:] + guidance * (both[:2] - both[2:])
            images = scheduler.step(v, t, images).prev_sample
    found = demo.sample(model, demo.load_demo_scheduler(), LABELS, noise(), num_steps=4, guidance=guidance)
    assert torch.equal(found, images)


def test_sample_equals_ddim_by_its_formula(model: DiTTransformer2DModel):
    # Salimans and Ho 2022, arXiv:2202.00512, appendix D: v = a e - s x, with a^2 = alpha_bar and s^2 = 1 - a^2
    kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
    images = noise().double()
    times = [750, 500, 250, 0]
    for t, following in zip(times, [*times[1:], None], strict=True):
        with torch.no_grad():
            v = model(images.float(), timestep=torch.tensor([t, t]), class_labels=LABELS).sample.double()
        a, s = kept[t].sqrt(), (1 - kept[t]).sqrt()
        clean, error = a * images - s * v, a * v + s * images
        after = kept[following] if following is not None else torch.tensor(1.0, dtype=torch.float64)
        images = after.sqrt() * clean + (1 - after).sqrt() * error
    found = demo.sample(model, demo.load_demo_scheduler(), LABELS, noise(), num_steps=4, guidance=1)
    torch.testing.assert_close(found.double(), images, rtol=0, atol=1e-4)  # the scheduler's own table is float32


def test_each_step_is_one_call_of_the_model(model: DiTTransformer2DModel):
    assert count_calls(model, guidance=1.5, num_steps=3) == [4, 4, 4]
    assert count_calls(model, guidance=1.0, num_steps=3) == [2, 2, 2]


def test_progress_is_told_of_every_step_and_its_images(model: DiTTransformer2DModel):
    seen: list[tuple[int, Tensor]] = []
    found = demo.sample(
        model, demo.load_demo_scheduler(), LABELS, noise(), num_steps=3, on_step=lambda i, x: seen.append((i, x))
    )
    assert [step for step, _ in seen] == [0, 1, 2]
    assert torch.equal(seen[-1][1], found)


def test_rows_do_not_depend_on_their_neighbours(model: DiTTransformer2DModel):
    pair = demo.sample(model, demo.load_demo_scheduler(), LABELS, noise(), num_steps=2)
    alone = demo.sample(model, demo.load_demo_scheduler(), LABELS[1:], noise()[1:], num_steps=2)
    torch.testing.assert_close(pair[1:], alone, rtol=0, atol=1e-4)  # other batch, other order of float32 sums


def test_classes_and_guidance_matter(model: DiTTransformer2DModel):
    def draw(labels: Tensor, guidance: float) -> Tensor:
        return demo.sample(model, demo.load_demo_scheduler(), labels, noise(), num_steps=2, guidance=guidance)

    first = draw(LABELS, 1.5)
    assert (first - draw(LABELS.flip(0), 1.5)).abs().max() > 1e-2
    assert (first - draw(LABELS, 4.0)).abs().max() > 1e-2


@pytest.mark.parametrize(
    ("labels", "start", "num_steps", "message"),
    [
        (LABELS, noise(count=3), 4, r"labels must be int64 \[3\]"),
        (LABELS.float(), noise(), 4, r"labels must be int64 \[2\].*float32"),
        (torch.tensor([0, 11]), noise(), 4, r"0\.\.10, got \[0, 11\]"),
        (torch.tensor([-1, 0]), noise(), 4, r"0\.\.10"),
        (LABELS[:0], noise(count=0), 4, "at least one class"),
        (LABELS, noise()[:, :2], 4, r"noise must be .*\[2, 2, 32, 32\]"),
        (LABELS, noise().long(), 4, "noise must be a floating point"),
        (LABELS, noise(), 0, "num_steps must be at least 1, got 0"),
    ],
)
def test_inputs_that_do_not_fit_are_named(
    model: DiTTransformer2DModel, labels: Tensor, start: Tensor, num_steps: int, message: str
):
    with pytest.raises(ValueError, match=message):
        demo.sample(model, demo.load_demo_scheduler(), labels, start, num_steps=num_steps)


def test_figures_of_the_card_belong_to_the_weights():
    manifest = json.loads((demo.FOLDER / "manifest.json").read_text())["files"]
    card, metrics = (demo.FOLDER / "README.md").read_text(), demo.FOLDER / "metrics.json"
    if metrics.is_file():
        digest = json.loads(metrics.read_text())["weights_sha256"]
        assert digest == manifest[WEIGHTS]
        assert f"`{digest[:12]}`" in card
    else:
        assert "have not been measured yet" in card


@pytest.mark.parametrize("computed", demo.CALIBRATED)
def test_the_shipped_calibration_fits_the_shipped_model(model: DiTTransformer2DModel, computed: int):
    scheduler = demo.load_demo_scheduler()
    scheduler.set_timesteps(50)
    found = demo.load_demo_calibration(computed)
    assert len(found.steps) == computed
    assert found.scheduler == fingerprint_scheduler(scheduler)
    fast = fc.optimize(model, fc.Tuned(), num_steps=50, calibration=found)
    assert fast.schedule == found.steps


def test_refuses_a_number_of_steps_that_was_not_calibrated():
    with pytest.raises(ValueError, match=r"calibrated for \(7, 10, 17\) computed steps, not 11"):
        demo.load_demo_calibration(11)


def test_a_missing_calibration_is_named(copied: Path):
    (copied / "calibration" / "tuned-7.safetensors").unlink()
    with pytest.raises(CalibrationError, match="no calibration file"):
        demo.load_demo_calibration(7, copied)
