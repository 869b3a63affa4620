"""The plain models of gpu.py: DiT is diffusers' with mapped weights, FLUX has the published number of weights."""

from __future__ import annotations

from dataclasses import replace

import torch
from plain import DIT_TINY, FLUX_DEV

from fouriercache.models.full_size import build_full_size
from tests.dit_mapping import dit_from_published


def test_the_plain_dit_is_the_published_one():
    torch.manual_seed(0)
    plain = DIT_TINY.build().eval()
    config = {"input_size": DIT_TINY.latent, "patch_size": 2, "in_channels": DIT_TINY.channels,
              "hidden_size": DIT_TINY.width, "depth": DIT_TINY.layers, "num_heads": DIT_TINY.heads,
              "num_classes": DIT_TINY.classes, "learn_sigma": False}  # fmt: skip
    theirs = dit_from_published(config, plain.state_dict())
    given = {"hidden_states": torch.randn(2, 4, 8, 8), "timestep": torch.tensor([17, 900]),
             "class_labels": torch.tensor([3, 10])}  # fmt: skip
    with torch.no_grad():
        torch.testing.assert_close(plain(**given), theirs(**given).sample, rtol=1e-5, atol=1e-6)


def test_the_plain_flux_has_as_many_weights_as_the_published_one():
    with torch.device("meta"):
        plain = replace(FLUX_DEV, dual=1, single=1).build()
    theirs, _ = build_full_size("flux-dev", depth=1)
    assert sum(weight.numel() for weight in plain.parameters()) == sum(w.numel() for w in theirs.parameters())
