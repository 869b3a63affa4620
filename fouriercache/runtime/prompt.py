"""A prompt that changes in mid-trajectory: as a rule another request that began without a word."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fouriercache.errors import TrajectoryError
from fouriercache.questions import Questions
from fouriercache.runtime.conditioning import Remembered

_PROMPTS = ("encoder_hidden_states", "class_labels", "pooled_projection", "prompt_embeds", "text_embeds")
"""How names of inputs begin that say what is asked for. Others (control features, guidance, second timesteps) may
change from step to step in one run, so nothing is read off them."""


def check_prompt(names: Sequence[str], before: Remembered, now: Sequence[Tensor]) -> None:
    """Raise TrajectoryError when an input that says what is asked for has surely changed.

    Args:
        names: of the conditioning inputs. before: their tensors at the pass's last step. now: their tensors, any shapes
            and dtypes. What was overwritten in place since is not known, and passes.
    """
    for name, old, version, new in zip(names, before.tensors, before.versions, now, strict=True):
        if old is new or not _is_prompt(name) or (version is not None and old._version != version):
            continue
        if old.shape == new.shape and old.device == new.device and torch.equal(old, new):
            continue
        raise TrajectoryError(
            f"The input {name} changed in mid-trajectory, so another request seems to have begun.\n"
            f"  where: {list(new.shape)} where the pass's last step had {list(old.shape)}, or other values\n"
            "  If one run was broken off and another begins further along, reset() between them. If the sampler\n"
            "  changes its prompt on the way, prepare(timesteps): steps are then told by their timesteps alone. If\n"
            "  these are two passes of a step, open a cache_context for each."
        )


def check_answers(before: Questions | None, now: Questions | None) -> None:
    """Raise TrajectoryError when the model asks its inputs in mid-trajectory and is answered otherwise than before.

    It then runs other code, and the kept features are those of the code before.
    """
    if before is None or now is None or before is now or before.agrees(now):
        return
    pairs = zip(before.answers, now.answers, strict=False)
    where = next((new.where for old, new in pairs if not old.agrees(new)), now.answers[0].where)
    raise TrajectoryError(
        "Inputs changed in mid-trajectory so that the model takes another path.\n"
        f"  where: {where}\n"
        "  If a new request begins there, reset() before it. If these are two passes of a step, open a cache_context\n"
        "  for each."
    )


def _is_prompt(name: str) -> bool:
    return name == "y" or name.startswith(_PROMPTS)
