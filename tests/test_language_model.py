"""A language model is refused in words.

In a file of its own, which is run among the last: a process that has loaded such a model keeps no captures on disk, and
the other tests share theirs.
"""

from __future__ import annotations

import pytest
import torch

import fouriercache as fc
from tests.tiny import METHOD


def test_a_language_model_has_nothing_to_denoise():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, use_cache=False
    )
    fast = fc.optimize(LlamaForCausalLM(config).eval(), METHOD)
    with pytest.raises(fc.CaptureError, match=r"(?s)found no sample input.*input_ids.*denoises"):
        fast(input_ids=torch.ones(2, 4, dtype=torch.int64))
