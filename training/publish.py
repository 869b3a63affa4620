"""Copy a trained snapshot into the package: fouriercache/models/demo_dit, or demo_video beside it.

    python training/publish.py runs/dit/model
    python training/evaluate.py

    python training/publish.py --videos runs/video/model
    python training/evaluate_video.py

Figures belong to one set of weights, so publishing other weights takes the old figures out of the model card.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from pathlib import Path

from fouriercache.models import demo, demo_video

FILES = ("config.json", "diffusion_pytorch_model.safetensors", "scheduler/scheduler_config.json", "training.json")
VIDEO_FILES = (*FILES, "classes.safetensors")
BEGIN, END = "<!-- figures: begin, written by a script -->", "<!-- figures: end -->"


def replace_figures(card: str, figures: str) -> str:
    """Put `figures` between the two markers of a model card.

    Raises:
        ValueError: the card does not have the two markers, in order, once each.
    """
    if card.count(BEGIN) != 1 or card.count(END) != 1 or card.index(BEGIN) > card.index(END):
        raise ValueError(f"The model card needs these two lines once, in this order:\n  {BEGIN}\n  {END}")
    head, rest = card.split(BEGIN)
    return f"{head}{BEGIN}\n\n{figures.strip()}\n\n{END}{rest.split(END)[1]}"


def publish(source: Path, folder: Path, files: tuple[str, ...] = FILES) -> None:
    """Copy the files of the snapshot at `source` and write the manifest with their SHA-256.

    Raises:
        FileNotFoundError: `source` lacks a file of diffusers' layout; nothing is copied then.
    """
    missing = [name for name in files if not (source / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{source} lacks {', '.join(missing)}; give the model folder of a training run.")
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, folder / name)
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files}
    (folder / "manifest.json").write_text(json.dumps({"files": digests}, indent=2) + "\n")
    (folder / "metrics.json").unlink(missing_ok=True)
    card = folder / "README.md"
    if card.is_file():
        card.write_text(replace_figures(card.read_text(), "These weights have not been measured yet."))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the model folder of a training run")
    parser.add_argument("--videos", action="store_true", help="it is the video model")
    args = parser.parse_args()
    folder, files = (demo_video.FOLDER, VIDEO_FILES) if args.videos else (demo.FOLDER, FILES)
    publish(args.source, folder, files)
    print(f"published {args.source} to {folder}")


if __name__ == "__main__":
    main()
