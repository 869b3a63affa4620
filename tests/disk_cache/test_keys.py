"""The key of a capture: another one as soon as anything differs that a graph depends on, in every process the same."""

from __future__ import annotations

import importlib
import logging
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_dispatch import attention_backend
from torch import nn

from fouriercache.calls import Binder
from fouriercache.disk_cache import CaptureCache
from tests import zoo
from tests.disk_cache.models import Small, dit_inputs, small_inputs
from tests.test_changed_model import Adapter
from tests.tiny import noise, tiny_dit


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("captures") / "mine"


@pytest.fixture
def key_of(folder: Path) -> Callable[..., str | None]:
    """The key of a capture, None where it has none; the folder is not looked at."""

    def key_of(model: nn.Module, arguments: dict[str, Any] | None = None, asked: tuple[object, ...] = ()) -> str | None:
        call = Binder(model).flatten(dit_inputs() if arguments is None else arguments)
        place = CaptureCache(folder).place(model, call, asked)
        return None if place is None else place.key

    return key_of


def _attribute(model: Any) -> None:
    model.transformer_blocks[1].norm3.eps = 1e-3


def _processor_attribute(model: Any) -> None:
    model.transformer_blocks[0].attn1.processor.scale = 2


def _processor(model: Any) -> None:
    class Other(type(model.transformer_blocks[0].attn1.processor)):  # type: ignore[misc]
        pass

    model.transformer_blocks[0].attn1.processor = Other()


def _adapter(model: Any) -> None:
    attention = model.transformer_blocks[0].attn1
    attention.to_v = Adapter(attention.to_v).eval()


def _tied(model: Any) -> None:
    first, second = (block.ff.net[2] for block in model.transformer_blocks)
    second.weight = first.weight


def _layout(model: Any) -> None:
    weight = model.pos_embed.proj.weight
    weight.data = weight.data.to(memory_format=torch.channels_last)


def _loose_tensor(model: Any) -> None:
    model.table = {"angles": torch.ones(3)}


class _Word(str):
    mark: int

    def __new__(cls, text: str, mark: int) -> Any:
        made = super().__new__(cls, text)
        made.mark = mark
        return made


class _Slotted:
    __slots__ = ("__mark",)

    def __init__(self, mark: int) -> None:
        self.__mark = mark


def _bfloat16(model: Any) -> None:
    model.transformer_blocks[1].bfloat16()


CHANGES: list[Callable[[Any], None]] = [
    _attribute, _processor_attribute, _processor, _adapter, _tied, _layout, _loose_tensor, _bfloat16,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_changed_model_has_another_key(key_of, change):
    model = tiny_dit()
    before = key_of(model)
    assert before == key_of(tiny_dit(seed=3))
    change(model)
    assert key_of(model) not in (before, None)


def test_every_form_of_call_and_all_that_was_asked_has_its_own_key(key_of, monkeypatch):
    model = tiny_dit()
    turned = {**dit_inputs(), "hidden_states": noise().to(memory_format=torch.channels_last)}
    forms = [dit_inputs(), dit_inputs(3), dit_inputs(size=16), {**dit_inputs(), "return_dict": False}, turned]
    keys = [key_of(model, form) for form in forms]
    keys += [key_of(model, asked=("hidden_states", None)), key_of(model, asked=(True,)), key_of(model, asked=(1,))]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        keys.append(key_of(model))
    monkeypatch.setenv("DIFFUSERS_SOMETHING", "1")
    keys.append(key_of(model))
    assert None not in keys
    assert len(set(keys)) == len(keys)


def test_code_that_is_put_in_the_place_of_other_code_has_another_key(key_of, monkeypatch):
    model = tiny_dit()
    keys = [key_of(model)]
    attention, softmax = F.scaled_dot_product_attention, nn.Linear.forward
    block = type(model.transformer_blocks[0])
    forward = block.forward
    with monkeypatch.context() as patch:
        patch.setattr(F, "scaled_dot_product_attention", lambda *args, **kwargs: attention(*args, **kwargs))
        keys.append(key_of(model))
    with monkeypatch.context() as patch:
        patch.setattr(nn.Linear, "forward", lambda self, x: softmax(self, x))
        keys.append(key_of(model))
    with monkeypatch.context() as patch:
        patch.setattr(block, "forward", lambda self, *args, **kwargs: forward(self, *args, **kwargs))
        keys.append(key_of(model))
    with monkeypatch.context() as patch:
        patch.setattr(torch, "addcdiv", lambda *args: args)  # as code of torch's own may call it
        keys.append(key_of(model))
    with monkeypatch.context() as patch:
        patch.setattr(nn.Linear, "_call_impl", lambda self, x: softmax(self, x))  # named by torch's own code, too
        keys.append(key_of(model))
    assert key_of(model) == keys[0]
    assert None not in keys
    assert len(set(keys)) == len(keys)


class Calling(Small):
    """Calls a method that it does not have."""

    guest: Callable[..., Any]

    def forward(self, hidden_states, timestep):
        return self.guest(super().forward(hidden_states, timestep))


def test_a_method_added_to_torch_s_classes_counts_where_code_names_it(key_of, monkeypatch):
    """transformers adds one to all modules, with which it draws weights."""
    model, call, held = Calling(), small_inputs(), object()
    with monkeypatch.context() as patch:
        patch.setattr(nn.Module, "guest", lambda self, x: x * 2, raising=False)
        twice = key_of(model, call)
        patch.setattr(nn.Module, "stranger", lambda self: held, raising=False)
        assert key_of(model, call) == twice is not None
        patch.setattr(nn.Module, "guest", lambda self, x: x * 3, raising=False)
        assert key_of(model, call) not in (None, twice)
        patch.setattr(nn.Module, "guest", lambda self, x: (held, x), raising=False)
        assert key_of(model, call) is None  # what it holds cannot be compared


def test_a_switch_that_code_reads_has_another_key(key_of):
    model, call = zoo.build("flux")
    before = key_of(model, dict(call))
    with attention_backend("_native_math"):
        assert key_of(model, dict(call)) not in (before, None)
    assert key_of(model, dict(call)) == before


SOURCE = """
import torch
from torch import nn
FACTOR = 2
def scale(x):
    return x * {number}
class Model(nn.Module):
    def forward(self, hidden_states, timestep):
        def inner(x):
            return scale(x) * FACTOR
        return inner(hidden_states)
"""


def test_a_changed_source_file_and_a_changed_global_have_another_key(key_of, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    keys = []
    for number in (1, 2):
        (tmp_path / "of_the_user.py").write_text(SOURCE.format(number=number))
        sys.modules.pop("of_the_user", None)
        importlib.invalidate_caches()
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        module: Any = importlib.import_module("of_the_user")
        keys.append(key_of(module.Model().eval(), small_inputs()))
    module.FACTOR = 3
    keys.append(key_of(module.Model().eval(), small_inputs()))
    monkeypatch.delitem(sys.modules, "of_the_user")
    assert None not in keys
    assert len(set(keys)) == 3


def test_what_a_closure_holds_is_in_the_key(key_of):
    def by(factor: float) -> Any:
        return lambda _, x: factor

    found = [key_of(Small(by(factor)), small_inputs()) for factor in (1.0, 2.0, 1.0)]
    assert found[0] == found[2] != found[1]


def test_a_value_that_was_expanded_is_in_the_key(key_of):
    keys = [key_of(Small(torch.tensor(scale).expand(1)), small_inputs()) for scale in (1.5, 2.5)]
    assert None not in keys
    assert keys[0] != keys[1]


def test_what_an_object_says_besides_its_attributes_is_in_the_key(key_of):
    words = _Word("a", 1), _Word("a", 2), _Word("b", 1)
    values: list[Any] = [*words, _Slotted(1), _Slotted(2), defaultdict(int), defaultdict(float), OrderedDict(), {}]
    keys = [key_of(_with(value), small_inputs()) for value in values]
    assert None not in keys
    assert len(set(keys)) == len(keys)


def _with(value: Any) -> Small:
    model = Small()
    model.held = value
    return model


def _hooked(model: Any) -> None:
    model.blocks[0].register_forward_hook(lambda *_: None)


def _not_understood(model: Any) -> None:
    model.scale = iter(())


@pytest.mark.parametrize(
    ("change", "words"), [(_hooked, "blocks.0, a Sequential, has a forward hook"), (_not_understood, "tuple_iterator")]
)
def test_what_no_key_can_say_is_not_kept_and_said(folder, caplog, change, words):
    model = Small()
    change(model)
    caplog.set_level(logging.INFO, "fouriercache")
    assert CaptureCache(folder).place(model, Binder(model).flatten(small_inputs()), ()) is None
    assert words in caplog.text
