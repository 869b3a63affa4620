"""Publishing a snapshot and measuring it: files, markers, figures, and a run that was broken off."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import evaluate_video
import pytest
import torch
from evaluate import observe_features, sample_set, write_figures
from measuring import save_sheet
from PIL import Image
from publish import BEGIN, END, FILES, publish, replace_figures

from fouriercache.models import demo, demo_video

CARD = f"# Card\n\n{BEGIN}\n\nold figures\n\n{END}\n\nLimits\n"


def row(images: int, accuracy: float, distance: float) -> dict[str, object]:
    by_class = dict.fromkeys(demo.CLASS_NAMES, accuracy)
    return {"images": images, "accuracy": accuracy, "frechet_distance": distance, "class_accuracy": by_class}


METRICS = {
    "weights_sha256": "0123456789abcdef",
    "parameters": 2_800_000,
    "training": {"step": 1200, "images_seen": 90_000, "elapsed": 3600.0},
    "steps": 50,
    "guidance": 1.5,
    "samples": row(1000, 0.913, 12.3),
    "real": row(1000, 0.999, 0.21),
    "sweep": [{"guidance": 4.0} | row(300, 0.95, 20.0), {"guidance": None} | row(300, 1.0, 0.7)],
    "features": {"gates": {"attention": [0.1, 0.2], "mlp": [0.3, 0.4]}, "stack_change": [0.5, 0.1, 0.2]},
}


def test_figures_replace_what_is_between_the_markers():
    card = replace_figures(CARD, "new figures\n")
    assert card == CARD.replace("old figures", "new figures")
    assert replace_figures(card, "new figures") == card


@pytest.mark.parametrize("card", ["no markers", BEGIN, f"{END}\n{BEGIN}", f"{CARD}{CARD}"])
def test_card_without_its_markers_is_refused(card: str):
    with pytest.raises(ValueError, match="needs these two lines once"):
        replace_figures(card, "figures")


def test_published_snapshot_loads_and_old_figures_are_gone(tmp_path: Path):
    source, folder = tmp_path / "model", tmp_path / "demo_dit"
    for name in FILES:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(demo.FOLDER / name, source / name)
    folder.mkdir()
    (folder / "metrics.json").write_text("{}")
    (folder / "README.md").write_text(CARD)
    publish(source, folder)
    assert not (folder / "metrics.json").exists()
    assert "have not been measured yet" in (folder / "README.md").read_text()
    recorded = json.loads((folder / "manifest.json").read_text())["files"]
    assert recorded == {name: hashlib.sha256((source / name).read_bytes()).hexdigest() for name in FILES}
    demo.load_demo_model(folder)
    demo.load_demo_scheduler(folder)


def test_incomplete_snapshot_is_refused_before_anything_is_copied(tmp_path: Path):
    source, folder = tmp_path / "model", tmp_path / "demo_dit"
    source.mkdir()
    shutil.copyfile(demo.FOLDER / "config.json", source / "config.json")
    with pytest.raises(FileNotFoundError, match=r"lacks diffusion_pytorch_model\.safetensors, scheduler"):
        publish(source, folder)
    assert not folder.exists()


def test_figures_say_what_was_measured():
    text = write_figures(METRICS)
    assert "`0123456789ab`: 2,800,000 parameters, 1200 training steps, 90,000 images, 60 minutes" in text
    assert "| samples | 1.5 | 1000 | 91.3% | 12.300 |" in text
    assert "| real, held out |  | 300 | 100.0% | 0.700 |" in text
    assert "| spiral | 91.3% | 99.9% |" in text
    assert "| mlp | 0.300 | 0.400 |" in text
    assert "0.100 at least, 0.200 in the middle, 0.500 at most" in text


def test_figures_of_the_video_model_say_what_was_measured():
    by_class = dict.fromkeys(demo_video.CLASS_NAMES, 0.9)
    measured = {"images": 90, "accuracy": 0.9, "frechet_distance": 1.5, "class_accuracy": by_class}
    metrics = {
        **METRICS,
        "guidance": 2.0,
        "samples": measured,
        "real": measured,
        "sweep": [{"guidance": 3.0} | measured],
    }
    text = evaluate_video.write_figures(metrics)
    assert "`0123456789ab`: 2,800,000 parameters, 1200 training steps, 90,000 videos or parts of videos" in text
    assert "| samples | 2 | 90 | 90.0% | 1.500 |\n| real, held out |  | 90 | 90.0% | 1.500 |\n| samples | 3 |" in text
    assert "| pulsing star | 90.0% | 90.0% |" in text


def test_videos_become_rows_of_frames():
    videos = torch.arange(2 * 8.0).view(2, 1, 8, 1, 1).expand(2, 3, 8, 24, 24)
    assert evaluate_video.as_rows(videos)[:, 0, 0, 0].tolist() == list(range(16))


def test_batches_already_sampled_are_read_again(tmp_path: Path):
    model = demo.load_demo_model()
    first, labels = sample_set(model, 1.5, 20, 10, 1, tmp_path)
    assert labels.tolist() == [*range(10), *range(10)]
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    model.register_forward_pre_hook(lambda module, inputs: pytest.fail("the model ran again"))
    again, _ = sample_set(model, 1.5, 20, 10, 1, tmp_path)
    assert torch.equal(first, again)
    assert not torch.equal(first[:10], first[10:])


def test_features_are_observed_for_every_step_and_block():
    model = demo.load_demo_model()
    found = observe_features(model, steps=3, guidance=1.0)
    assert [len(found["gates"][branch]) for branch in ("attention", "mlp")] == [8, 8]
    assert [len(found["gates_by_step"][branch]) for branch in ("attention", "mlp")] == [3, 3]
    assert len(found["stack_change"]) == 2
    assert all(change > 0 for change in found["stack_change"])
    assert not any(module._forward_hooks for module in model.modules())


def test_grid_has_one_class_a_column_and_real_images_first(tmp_path: Path):
    path = tmp_path / "images" / "grid.png"
    save_sheet(torch.cat([-torch.ones(10, 3, 32, 32), torch.zeros(20, 3, 32, 32)]), path, columns=10, upper=10)
    with Image.open(path) as picture:
        assert picture.size == (10 * 68 + 4, 3 * 68 + 8)
        assert picture.getpixel((10, 10)) == (0, 0, 0)
        assert picture.getpixel((10, 100)) == (128, 128, 128)
        assert picture.getpixel((1, 1)) == (255, 255, 255)
