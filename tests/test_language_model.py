"""A language model is refused in words, and leaves the captures of others alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import fouriercache as fc
from fouriercache.calls import Binder
from fouriercache.disk_cache import CaptureCache
from tests.disk_cache.models import Small, small_inputs
from tests.tiny import METHOD


def key_of_small(folder: Path) -> str | None:
    model = Small()
    place = CaptureCache(folder).place(model, Binder(model).flatten(small_inputs()), ())
    return None if place is None else place.key


def test_a_language_model_has_nothing_to_denoise(tmp_path):
    """Captures of other models are found on disk as before: transformers adds methods to torch's own modules."""
    key = key_of_small(tmp_path)
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, use_cache=False
    )
    fast = fc.optimize(LlamaForCausalLM(config).eval(), METHOD)
    with pytest.raises(fc.CaptureError, match=r"(?s)found no sample input.*input_ids.*denoises"):
        fast(input_ids=torch.ones(2, 4, dtype=torch.int64))
    assert key_of_small(tmp_path) == key is not None
