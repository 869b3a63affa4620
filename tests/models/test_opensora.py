"""Open-Sora's STDiT3: layer by layer and loop by loop what the released code computed, and cached like any other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

import fouriercache as fc
from fouriercache.errors import MethodError, TrajectoryError, WeightsError
from fouriercache.models.opensora import (
    KnownFrames,
    OpenSoraTransformer3DModel,
    flow_timesteps,
    load_published,
    sample,
)

FILE = Path(__file__).parents[1] / "goldens" / "opensora_stdit3.safetensors"
ROUNDING = 1e-5
"""Sums run in another order: some 2e-6 of values around 3. A quirk of the published code left out is above 1e-1."""


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(FILE)


@pytest.fixture(scope="module")
def published(golden: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a published checkpoint's."""
    folder = tmp_path_factory.mktemp("stdit3")
    with safe_open(FILE, "pt") as file:
        (folder / "config.json").write_text(file.metadata()["config"])
    save_file(
        {name.removeprefix("weights."): value for name, value in golden.items() if name.startswith("weights.")},
        folder / "model.safetensors",
    )
    return folder


@pytest.fixture(scope="module")
def model(published: Path) -> OpenSoraTransformer3DModel:
    return load_published(published)


def inputs_of(golden: dict[str, Tensor], **more: Any) -> dict[str, Any]:
    return {
        "hidden_states": golden["sample"],
        "timestep": golden["timestep"],
        "encoder_hidden_states": golden["text"],
        "encoder_attention_mask": golden["text_mask"],
        **{name: golden[name] for name in ("fps", "height", "width")},
        **more,
    }


def loop(model: Callable[..., Any], golden: dict[str, Tensor], null: Tensor, **changes: Any) -> Tensor:
    settings: dict[str, Any] = {
        "timesteps": flow_timesteps(6, height=80, width=96, num_frames=51),
        "height": 80,
        "width": 96,
        "fps": 24,
        "text_mask": golden["text_mask"],
        "guidance": 3.0,
    }
    return sample(model, golden["latents"], golden["text"], null, **{**settings, **changes})


@pytest.mark.parametrize("case", ["plain", "frames"])
def test_every_layer_gives_what_the_published_code_gave(model, golden, case):
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: object, arguments: object, output: Any) -> None:
            seen.setdefault(name, output)

        return hook

    handles = [part.register_forward_hook(keep(name)) for name, part in model.named_modules() if name]
    try:
        with torch.no_grad():
            mask = {"frame_mask": golden["frame_mask"]} if case == "frames" else {}
            (seen["out"],) = model(**inputs_of(golden, **mask), return_dict=False)
    finally:
        for handle in handles:
            handle.remove()
    wanted = {name.removeprefix(f"{case}/"): value for name, value in golden.items() if name.startswith(f"{case}/")}
    assert {"x_embedder", "t_block", "spatial_blocks.0", "temporal_blocks.1", "final_layer", "out"} <= wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(seen[name].reshape(value.shape), value, rtol=0, atol=ROUNDING)


def test_the_timesteps_are_those_of_the_published_loop(golden):
    timesteps = flow_timesteps(6, height=80, width=96, num_frames=51)
    assert timesteps == pytest.approx(golden["timesteps"].tolist(), rel=1e-6)
    assert flow_timesteps(4, height=480, width=854, num_frames=1, is_shifted=False) == (1000, 750, 500, 250)


@pytest.mark.parametrize("is_continued", [False, True])
def test_the_loop_gives_what_the_published_loop_gave(model, golden, is_continued):
    """`is_continued`: some frames are given, whole or in part; their noise is drawn as the published loop drew it."""
    known = KnownFrames(golden["strength"]) if is_continued else None
    made = loop(model, golden, model.null_caption(2), known=known, generator=torch.Generator().manual_seed(5))
    want = golden["sampled_known" if is_continued else "sampled"]
    torch.testing.assert_close(made, want, rtol=0, atol=10 * ROUNDING)
    if is_continued:
        stays = golden["strength"] == 0
        assert torch.equal(made.movedim(2, 1)[stays], golden["latents"].movedim(2, 1)[stays])


@pytest.mark.parametrize(("site", "is_continued"), [("branch", True), ("stack", False)])
@pytest.mark.exhaustive  # `benchmarks/pipelines.py` runs its loop, too
def test_is_cached_like_any_other_model(model, golden, site, is_continued):
    known = KnownFrames(golden["strength"]) if is_continued else None

    def run(denoiser: Callable[..., Any]) -> Tensor:
        noise = torch.Generator().manual_seed(5)
        return loop(denoiser, golden, model.null_caption(2), known=known, generator=noise)

    want = run(model)
    assert torch.equal(run(fc.optimize(model, fc.FORA(1).with_(site=site), num_steps=6)), want)
    fast: Any = fc.optimize(model, fc.TaylorSeer(interval=2, order=1).with_(site=site), num_steps=6)
    assert 0 < float((run(fast) - want).norm() / want.norm()) < 1
    assert fast.report.grid == fc.TokenGrid(3, 3, 3)
    if site == "branch":
        names = {site.name for site in fast.report.sites}
        assert len(names) == 3 * 2 * model.config.depth
        assert {"spatial_blocks.1.mlp", "temporal_blocks.0.attention"} <= names


def test_a_saved_model_comes_back(model, golden, tmp_path):
    model.save_pretrained(tmp_path)
    again = OpenSoraTransformer3DModel.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(again(**inputs_of(golden)).sample, model(**inputs_of(golden)).sample)


def test_text_in_the_published_shape_and_other_resolutions_are_taken(model, golden):
    with torch.no_grad():
        flat = model(**inputs_of(golden)).sample
        assert torch.equal(model(**inputs_of(golden, encoder_hidden_states=golden["text"][:, None])).sample, flat)
        assert model(**inputs_of(golden, hidden_states=torch.zeros(2, 4, 2, 8, 4))).sample.shape == (2, 8, 2, 8, 4)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: (folder / "config.json").unlink(), "Cannot read .*config.json"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"no weights"), "Cannot read .*model.safetensors"),
        (lambda folder: _edit(folder, model_type="STDiT2"), "no STDiT3.*'STDiT2'.*config.json"),
        (lambda folder: _edit(folder, skip_y_embedder=True), "skip_y_embedder"),
        (lambda folder: _edit(folder, depth=3), r"\d+ missing, such as spatial_blocks.2"),
        (lambda folder: _edit(folder, depth=1), r"\d+ unknown, such as spatial_blocks.1"),
        (lambda folder: _edit(folder, caption_channels=32), "of another shape, such as y_embedder"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(published, tmp_path, change, says):
    for file in published.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    change(tmp_path)
    with pytest.raises(WeightsError, match=f"(?s){says}"):
        load_published(tmp_path)


def _edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("timesteps", [(), (900.0, 950.0), (1100.0, 500.0), (900.0, 0.0)])
def test_timesteps_that_do_not_run_down_are_refused(model, golden, timesteps):
    with pytest.raises(TrajectoryError, match=r"(?s)runs down from noise.*flow_timesteps"):
        loop(model, golden, model.null_caption(2), timesteps=timesteps)


def test_sizes_that_make_no_sense_are_refused():
    with pytest.raises(MethodError, match="num_frames"):
        flow_timesteps(6, height=80, width=96, num_frames=0)
    with pytest.raises(ValueError, match="hidden_size=50"):
        OpenSoraTransformer3DModel(hidden_size=50, num_heads=2)
