"""A DiT small enough to capture in a second, a denoising loop for it, and what caching should give, by brute force."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
from torch import Tensor

import fouriercache as fc

TIMESTEPS = (900, 800, 700, 600, 500, 400, 300, 200)
COMPUTED = (0, 1, 4, 6)
METHOD = fc.TaylorSeer(order=1, schedule=fc.Table(COMPUTED))
# A fused gate and add, a narrowed linear and conditioning in a batch each round once more: some 1e-7 of the largest
# value a step, eight steps. What is wrong by one feature or one label is above 1e-3.
ROUNDING = 1e-5


def tiny_dit(seed: int = 0, size: int = 8, layers: int = 2) -> Any:
    """Return a DiT of `layers` blocks, width 16, `size` x `size` latents of 3 channels, 10 classes, random weights."""
    torch.manual_seed(seed)
    model = DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=3,
        out_channels=3,
        num_layers=layers,
        sample_size=size,
        patch_size=2,
        num_embeds_ada_norm=10,
        norm_eps=1e-6,
    )
    model.eval()
    return model


def noise(batch: int = 2, size: int = 8, seed: int = 0) -> Tensor:
    """Return latents [batch, 3, size, size]."""
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(seed))


def labels(batch: int = 2, first: int = 1) -> Tensor:
    """Return class labels [batch]."""
    return (torch.arange(batch) * 3 + first) % 11


def step_inputs(x: Tensor, timestep: float, classes: Tensor) -> dict[str, Tensor]:
    """Return the keyword arguments of one call."""
    return {"hidden_states": x, "timestep": torch.full((len(x),), timestep), "class_labels": classes}


def denoise(
    model: Callable[..., Any],
    *,
    x: Tensor | None = None,
    classes: Tensor | None = None,
    timesteps: Sequence[float] = TIMESTEPS,
    before_step: Callable[[int], None] = lambda _: None,
) -> list[Tensor]:
    """Run a trajectory, `x <- x - out / 8`; return the model's outputs, one for each step."""
    x = noise() if x is None else x
    classes = labels(len(x)) if classes is None else classes
    outputs: list[Tensor] = []
    with torch.no_grad():
        for step, timestep in enumerate(timesteps):
            before_step(step)
            outputs.append(model(**step_inputs(x, timestep, classes)).sample)
            x = x - outputs[-1] / 8
    return outputs


def distance(have: Sequence[Tensor], want: Sequence[Tensor]) -> float:
    """Return the largest difference of two trajectories over the largest value."""
    assert [t.shape for t in have] == [t.shape for t in want]
    differences = [float((a.double() - b.double()).abs().amax()) for a, b in zip(have, want, strict=True)]
    return max(differences) / max(float(b.double().abs().amax()) for b in want)


def is_same(have: Sequence[Tensor], want: Sequence[Tensor]) -> bool:
    """Return whether two trajectories are equal bit for bit."""
    return len(have) == len(want) and all(torch.equal(a, b) for a, b in zip(have, want, strict=True))


class BruteForce:
    """What caching at every branch should give: the DiT's forward by hand, with the live modules of `model`.

    Attention and MLP outputs are kept before their gates at the steps in `computed`, and extrapolated by a straight
    line through the last two in between. All the rest runs in every step.
    """

    def __init__(self, model: Any, computed: Collection[int] = COMPUTED) -> None:
        self.model = model
        self.computed = computed
        self.step = 0
        self.kept: dict[Any, list[tuple[int, Tensor]]] = {}

    def __call__(self, hidden_states: Tensor, timestep: Tensor, class_labels: Tensor) -> Any:
        model = self.model
        x = model.pos_embed(hidden_states)
        for block in model.transformer_blocks:
            norm1 = block.norm1
            mod = norm1.linear(F.silu(norm1.emb(timestep, class_labels, hidden_dtype=x.dtype)))
            shift1, scale1, gate1, shift2, scale2, gate2 = (part[:, None] for part in mod.chunk(6, dim=1))
            x = x + gate1 * self._branch(block.attn1, norm1.norm(x) * (1 + scale1) + shift1)
            x = x + gate2 * self._branch(block.ff, block.norm3(x) * (1 + scale2) + shift2)
        self.step += 1
        return finish(model, x, timestep, class_labels)

    def _branch(self, module: Any, x: Tensor) -> Tensor:
        kept = self.kept.setdefault(module, [])
        if self.step in self.computed:
            kept.append((self.step, module(x)))
            return kept[-1][1]
        (before, old), (last, new) = [kept[0], *kept][-2:]
        return new if before == last else new + (new - old) * ((self.step - last) / (last - before))


def finish(model: Any, x: Tensor, timestep: Tensor, class_labels: Tensor) -> Any:
    """What the DiT makes of its blocks' tokens [batch, tokens, width]: the last modulation, the head, the patches."""
    condition = model.transformer_blocks[0].norm1.emb(timestep, class_labels, hidden_dtype=x.dtype)
    shift, scale = (part[:, None] for part in model.proj_out_1(F.silu(condition)).chunk(2, dim=1))
    x = model.proj_out_2(model.norm_out(x) * (1 + scale) + shift)
    side, patch = int(x.shape[1] ** 0.5), model.patch_size
    x = x.reshape(-1, side, side, patch, patch, model.out_channels)
    return _Output(torch.einsum("nhwpqc->nchpwq", x).reshape(-1, model.out_channels, side * patch, side * patch))


class _Output:
    def __init__(self, sample: Tensor) -> None:
        self.sample = sample


def example() -> tuple[Any, dict[str, Tensor]]:
    """Return the DiT and one call of it: what a model spec names."""
    return tiny_dit(), step_inputs(noise(), TIMESTEPS[0], labels())
