"""The plain models of gpu.py: DiT is diffusers' with mapped weights, FLUX has the published number of weights.

And which data sheet is a GPU's.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from chips import find_sheet
from plain import DIT_TINY, FLUX_DEV

from fouriercache.cost import DEVICES
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


def test_a_gpu_is_known_by_the_words_of_its_name_and_its_cheaper_kin_is_not_taken_for_it():
    known = {"NVIDIA H100 80GB HBM3": "h100", "NVIDIA H200": "h200", "NVIDIA A100-SXM4-80GB": "a100",
             "NVIDIA GeForce RTX 4090": "rtx4090", "NVIDIA L40S": "l40s"}  # fmt: skip
    assert {gpu: find_sheet(gpu) for gpu in known} == {gpu: DEVICES[name] for gpu, name in known.items()}
    assert [find_sheet(gpu) for gpu in ("NVIDIA H100 PCIe", "NVIDIA A100-SXM4-40GB", "Tesla T4")] == [None] * 3
