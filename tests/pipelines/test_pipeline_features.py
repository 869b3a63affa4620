"""What a user does to a pipeline beside running it: adapters, compilers, offloading, casts, saving; FLUX, and Wan 2.2
where two transformers make a difference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations
from typing import Any

import pytest
import torch
from accelerate.hooks import CpuOffload  # type: ignore[import-untyped]
from torch import Tensor, nn

import fouriercache as fc
from tests.pipelines.rig import Rig
from tests.pipelines.runs import METHODS, relative_error, run_flux, run_wan22
from tests.pipelines.tiny import embeddings, flux_pipeline
from tests.pipelines.tiny_zoo import wan22_pipeline

pytestmark = pytest.mark.slow

ROUNDING = 1e-5
NAME = "TaylorSeer at branches"


@pytest.fixture(scope="module")
def rig() -> Rig:
    return wan22()


def flux() -> Rig:
    return Rig(flux_pipeline(), run_flux)


def wan22() -> Rig:
    return Rig(wan22_pipeline(), run_wan22)


both = pytest.mark.parametrize("build", [wan22, pytest.param(flux, marks=pytest.mark.exhaustive)])
"""Two pipelines, of which one is run every time."""


def lora(block: str = "blocks.0.attn1", layer: str = "to_q", seed: int = 0) -> dict[str, Tensor]:
    """A LoRA of rank 2 in the format of a file, for a square layer."""
    width = 24 if block.startswith("blocks") else 32
    shapes = {"lora_A": (2, width), "lora_B": (width, 2)}
    return {
        f"transformer.{block}.{layer}.{name}.weight": embeddings(seed + place, *shape)
        for place, (name, shape) in enumerate(shapes.items())
    }


def check_follows(rig: Rig, **changes: Any) -> Tensor:
    """What is in place, at interval 1, gives what the models give as they are now, in two runs; return it."""
    parts = rig.in_place
    have = [rig.run(**changes) for _ in range(2)]
    want = rig.run_uncached(**changes)
    rig.place(parts)
    assert torch.equal(have[0], want)
    assert torch.equal(have[1], want)
    return want


def test_a_lora_takes_effect_when_it_is_loaded_fused_and_unloaded():
    pytest.importorskip("peft")
    rig = wan22()
    rig.put(NAME, 1)
    without = rig.run()
    rig.pipe.load_lora_weights(lora())
    loaded = check_follows(rig)
    rig.pipe.fuse_lora()
    assert relative_error(check_follows(rig), loaded) < ROUNDING
    rig.pipe.unfuse_lora()
    rig.pipe.unload_lora_weights()
    unloaded = check_follows(rig)  # peft subtracts what it had added
    assert relative_error(unloaded, without) < ROUNDING < relative_error(loaded, without) / 100


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute:UserWarning")  # peft's, of two adapters
def test_two_loras_take_effect_and_can_be_scaled_and_turned_off():
    pytest.importorskip("peft")
    rig = flux()
    rig.put(NAME, 1)
    results = [rig.run()]
    for seed, name in ((0, "one"), (50, "other")):
        rig.pipe.load_lora_weights(lora("single_transformer_blocks.1.attn", "to_q", seed), adapter_name=name)
    for scales in ([1.0, 0.5], [0.3, 1.0]):
        rig.pipe.set_adapters(["one", "other"], scales)
        results.append(check_follows(rig))
    results.append(check_follows(rig, joint_attention_kwargs={"scale": 0.3}))
    rig.pipe.fuse_lora(adapter_names=["one"])
    check_follows(rig)
    rig.pipe.unfuse_lora()
    rig.pipe.disable_lora()
    assert relative_error(check_follows(rig), results[0]) < ROUNDING
    assert min(relative_error(*pair) for pair in combinations(results, 2)) > 100 * ROUNDING


def test_a_lora_loaded_in_the_middle_of_a_run_is_refused():
    pytest.importorskip("peft")
    rig = wan22()
    rig.put(NAME, 4)

    def load(pipe: Any, index: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        if index == 2:
            pipe.load_lora_weights(lora())
        return kwargs

    with pytest.raises(fc.CaptureError, match=r"(?s)changed in mid-trajectory.*attn1\.to_q.*reset\(\)"):
        rig.run(callback_on_step_end=load)


@pytest.mark.parametrize("compiled", [torch.compile, lambda fast: fast.compile() or fast], ids=["wrapped", "in place"])
def test_compiled_by_torch_the_pipeline_gives_what_it_gives_without(rig: Rig, compiled: Callable[..., Any]):
    want = rig.first_run(NAME, 4)
    torch._dynamo.utils.counters.clear()
    rig.pipe.transformer = compiled(fc.optimize(rig.model, METHODS[NAME](4), num_steps=rig.steps["transformer"]))
    for _ in range(2):
        assert torch.equal(rig.run(), want)
    assert not torch._dynamo.utils.counters["stats"]["unique_graphs"]


@contextmanager
def parked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """accelerate's hook for whole models, with its device played: a parked model's weights are NaN until its hook runs.

    Yields a list of what the hooks did.
    """
    weights: dict[Tensor, Tensor] = {}
    done: list[str] = []

    def park(_: CpuOffload, module: nn.Module) -> nn.Module:
        for weight in module.parameters():
            if weight not in weights:
                weights[weight], weight.data = weight.data, torch.full_like(weight, torch.nan)
        done.append(f"parked {type(module).__name__}")
        return module

    def fetch(hook: CpuOffload, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if hook.prev_module_hook is not None:
            hook.prev_module_hook.offload()
        for weight in module.parameters():
            if weight in weights:
                weight.data = weights.pop(weight)
        done.append(f"fetched {type(module).__name__}")
        return args, kwargs

    with monkeypatch.context() as patch:
        patch.setattr(CpuOffload, "init_hook", park)
        patch.setattr(CpuOffload, "pre_forward", fetch)
        yield done


@both
def test_optimised_transformers_are_offloaded_as_a_whole(monkeypatch: pytest.MonkeyPatch, build: Callable[[], Rig]):
    rig = build()
    want = rig.run_uncached()
    rig.put(NAME, 1)
    with parked(monkeypatch) as done:
        rig.pipe.enable_model_cpu_offload(device="cpu")
        assert all(weight.isnan().all() for model in rig.models.values() for weight in model.parameters())
        for _ in range(2):
            assert torch.equal(rig.run(), want)
        assert all(weight.isnan().all() for model in rig.models.values() for weight in model.parameters())
        assert "fetched OptimizedModule" in done
        rig.pipe.remove_all_hooks()


def test_a_transformer_that_is_offloaded_already_is_refused():
    pipe = flux_pipeline()
    pipe.enable_model_cpu_offload(device="cpu")
    with pytest.raises(fc.CaptureError, match=r"(?s)is offloaded by accelerate.*optimise.*enable_model_cpu_off"):
        fc.optimize(pipe.transformer, METHODS[NAME](4))


def test_an_optimised_transformer_offloaded_layer_by_layer_is_refused():
    rig = wan22()
    rig.put(NAME, 4)
    rig.pipe.enable_sequential_cpu_offload(device="cpu")
    with pytest.raises(fc.CaptureError, match=r"(?s)offloaded by accelerate.*pipe\.to\(device"):
        rig.run()


@pytest.mark.parametrize("dtype", [torch.float16, pytest.param(torch.bfloat16, marks=pytest.mark.exhaustive)])
def test_a_pipeline_in_half_precision_before_or_after_is_reproduced_exactly(rig: Rig, dtype: torch.dtype):
    given = wan22()
    given.pipe.to("cpu", dtype)
    given.put(NAME, 1)
    want = check_follows(given)
    after = wan22()
    after.put(NAME, 1)
    after.pipe.to("cpu", dtype)
    assert after.pipe.transformer_2.dtype == dtype
    assert torch.equal(after.run(), want)
    assert relative_error(want, rig.run_uncached()) > ROUNDING


@both
def test_a_pipeline_saves_what_it_saves_without_and_is_loaded_again(tmp_path: Any, build: Callable[[], Rig]):
    rig = build()
    rig.pipe.save_pretrained(tmp_path / "plain")
    rig.put(NAME, 4)
    rig.pipe.save_pretrained(tmp_path / "fast")
    saved = [
        {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "plain", tmp_path / "fast")
    ]
    assert saved[0] == saved[1]
    absent = {name: None for name, part in rig.pipe.components.items() if part is None}
    loaded = type(rig.pipe).from_pretrained(tmp_path / "fast", **absent)
    for part, model in rig.models.items():
        state = getattr(loaded, part).state_dict()
        assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    given = type(rig.pipe).from_pretrained(tmp_path / "fast", transformer=rig.pipe.transformer, **absent)
    assert given.transformer is rig.pipe.transformer
    other = type(rig.pipe).from_pipe(rig.pipe, **rig.in_place)
    assert all(getattr(other, part) is fast for part, fast in rig.in_place.items())
