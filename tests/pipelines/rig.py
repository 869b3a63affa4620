"""A pipeline with the original transformer or an optimised one in it, and what can be seen of a run from outside."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import fouriercache as fc
from tests.pipelines.runs import METHODS, STEPS, relative_error, scheduled, steps_of_each


class Rig:
    """One pipeline, and optimised versions of its transformer to put in its place, or of both if it has two.

    Args:
        pipe: any diffusers pipeline with a `transformer`.
        call: runs the pipeline with the given changes to its arguments and returns its result as one tensor.
    """

    def __init__(self, pipe: Any, call: Callable[..., Tensor]) -> None:
        pipe.set_progress_bar_config(disable=True)
        self.pipe = pipe
        self.steps = steps_of_each(pipe)
        self.models: dict[str, nn.Module] = {name: getattr(pipe, name) for name in self.steps}
        self.model: nn.Module = pipe.transformer
        self._call = call
        self._fast: dict[tuple[str, int], dict[str, fc.OptimizedModule]] = {}
        self._first: dict[tuple[str, int], Tensor] = {}

    def run(self, **changes: Any) -> Tensor:
        """Run the pipeline as it stands; equal arguments mean equal seeds."""
        return self._call(self.pipe, **changes)

    def run_uncached(self, **changes: Any) -> Tensor:
        """Run the pipeline with the original transformers, which stay in place."""
        self.place(self.models)
        return self.run(**changes)

    def put(self, name: str, interval: int) -> fc.OptimizedModule:
        """Put optimised transformers in place, captured once and with nothing in their caches; return the first."""
        key = (name, interval)
        if key not in self._fast:
            self._fast[key] = {
                part: fc.optimize(model, METHODS[name](interval), num_steps=self.steps[part])
                for part, model in self.models.items()
            }
            self.place(self._fast[key])
            self._first[key] = self.run()
        for fast in self._fast[key].values():
            fast.reset()
        self.place(self._fast[key])
        return self._fast[key]["transformer"]

    def first_run(self, name: str, interval: int) -> Tensor:
        """What the pipeline gave in the first run that an optimised transformer ever made."""
        self.put(name, interval)
        return self._first[name, interval]

    def place(self, parts: Mapping[str, nn.Module]) -> None:
        """Put transformers in place, by their names in the pipeline."""
        for name, part in parts.items():
            setattr(self.pipe, name, part)

    @property
    def in_place(self) -> dict[str, nn.Module]:
        """The transformers that the pipeline has now, in the order in which it runs them."""
        return {name: getattr(self.pipe, name) for name in self.steps}


class _AttentionCount(TorchDispatchMode):
    """Counts the attention kernels that really run."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # fused kernels have attention in their name; the unfused form has one softmax for each attention
        self.count += "scaled_dot_product" in func.name() or "softmax" in func.name()
        return func(*args, **(kwargs or {}))


def count_attention(rig: Rig, **changes: Any) -> list[int]:
    """Run the pipeline; return how many attention kernels each call of a transformer launched.

    The transformers must have run before with inputs of the same form: nothing may be captured here.
    """
    counter = _AttentionCount()
    starts: list[int] = []
    counts: list[int] = []
    with (
        _hooked(rig, nn.Module.register_forward_pre_hook, lambda *_: starts.append(counter.count)),
        _hooked(rig, nn.Module.register_forward_hook, lambda *_: counts.append(counter.count - starts[-1])),
        counter,
    ):
        rig.run(**changes)
    return counts


def record_inputs(rig: Rig, **changes: Any) -> list[dict[str, Any]]:
    """Run the pipeline; return what each call of a transformer was given, by argument name."""
    signature = inspect.signature(rig.model.forward)
    seen: list[dict[str, Any]] = []

    def record(_: nn.Module, args: Any, kwargs: Any) -> None:
        seen.append(dict(signature.bind(*args, **kwargs).arguments))

    with _hooked(rig, nn.Module.register_forward_pre_hook, record, with_kwargs=True):
        rig.run(**changes)
    return seen


@contextmanager
def _hooked(rig: Rig, register: Callable[..., Any], hook: Callable[..., None], **how: Any) -> Iterator[None]:
    handles = [register(part, hook, **how) for part in rig.in_place.values()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def check_exact(rig: Rig, **changes: Any) -> None:
    """At interval 1 the pipeline's result is that of the original transformer, bit for bit, in two runs on end."""
    want = rig.run_uncached(**changes)
    rig.put("TaylorSeer at branches", 1)
    for _ in range(2):
        assert torch.equal(rig.run(**changes), want)


def check_cached(rig: Rig, name: str, passes: int = 1, of_text: int = 0, **changes: Any) -> None:
    """At interval 4 the scheduled steps are computed in every pass, no other; runs agree; the error is reported.

    `of_text` attentions see the text alone, and are run in the first computed and the first predicted step only.
    """
    want = rig.run_uncached(**changes)
    attentions = count_attention(rig, **changes)
    wanted = {part: scheduled(name, steps) for part, steps in rig.steps.items()}
    is_computed = [step in wanted[part] for part, steps in rig.steps.items() for step in range(steps)]
    assert len(attentions) == len(is_computed) * passes
    assert of_text < min(attentions)
    rig.put(name, 4)
    assert {part: list(cast(Any, fast).schedule) for part, fast in rig.in_place.items()} == wanted
    have = rig.run(**changes)
    launched = count_attention(rig, **changes)
    for call, count in enumerate(attentions):
        step = call // passes
        again = count - of_text if is_computed[step] else 0
        assert launched[call] == again + of_text * (step == is_computed.index(is_computed[step])), f"call {call}"
    assert torch.equal(rig.run(**changes), have), "the third run differs from the first"
    error = relative_error(have, want)
    report = f"{name}, interval 4: relative error {error:.3g} to the uncached result"
    assert torch.isfinite(have).all(), report
    assert 0 < error < 1, report


def check_requests_in_a_row(rig: Rig, requests: Sequence[Mapping[str, Any]]) -> None:
    """Each of several different requests to one optimised transformer gets what it would get alone."""
    alone = []
    for changes in requests:
        rig.put("TaylorSeer at branches", 4)
        alone.append(rig.run(**changes))
    rig.put("TaylorSeer at branches", 4)
    for changes, want in zip([*requests, *requests], [*alone, *alone], strict=True):
        assert torch.equal(rig.run(**changes), want)


class StopRun(Exception):
    """A user's own reason to end a run."""


def stop_after(step: int) -> Callable[..., dict[str, Any]]:
    """Make a `callback_on_step_end` that ends the run after a step."""

    def callback(pipe: Any, index: int, timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        if index == step:
            raise StopRun
        return kwargs

    return callback


def check_broken_off(rig: Rig, break_off: Callable[[], object]) -> None:
    """A run that `break_off` ends with StopRun leaves no trace in the next one."""
    fast = rig.put("TaylorSeer at branches", 4)
    with pytest.raises(StopRun):
        break_off()
    assert fast.cache_bytes > 0
    assert torch.equal(rig.run(), rig.first_run("TaylorSeer at branches", 4))


def check_step_count(rig: Rig, *, is_said: bool = False) -> None:
    """A sampler with other steps than declared is refused: a longer one when it goes on, a shorter one when it repeats,
    or at once where the pipeline says how many it takes."""
    name = "FORA at the stack"
    rig.put(name, 4)
    with pytest.raises(fc.TrajectoryError, match=f"goes on after its {STEPS} steps"):
        rig.run(num_inference_steps=STEPS + 2)
    assert torch.equal(rig.run(), rig.first_run(name, 4))
    for _ in range(0 if is_said else 2):
        rig.run(num_inference_steps=STEPS - 2)  # so far no different from runs broken off
    with pytest.raises(fc.TrajectoryError, match=f"num_steps={STEPS - 2}"):
        rig.run(num_inference_steps=STEPS - 2)


def check_attributes(rig: Rig) -> None:
    """What pipelines read of a transformer is the original's."""
    fast = rig.put("TaylorSeer at branches", 1)
    model: Any = rig.model
    assert fast.config is model.config
    assert (fast.dtype, fast.device) == (model.dtype, model.device)
    assert rig.pipe.device == model.device
    assert rig.pipe.components["transformer"] is fast


def check_output_types(rig: Rig) -> None:
    """The optimised transformer returns what the original returns, with `return_dict` and without."""
    fast = rig.put("TaylorSeer at branches", 1)
    as_piped = record_inputs(rig)[0]
    flipped = as_piped | {"return_dict": not as_piped.get("return_dict", True)}
    for inputs in (as_piped, flipped):
        with torch.no_grad():
            want, have = rig.model(**inputs), fast(**inputs)
        assert type(have) is type(want)
        assert len(have) == len(want) == 1
        assert torch.equal(have[0], want[0])


def check_cast(rig: Rig, dtype: torch.dtype) -> None:
    """An optimised transformer that has run follows `pipe.to(...)`, and runs exactly. Casts the rig's weights."""
    fast = fc.optimize(rig.model, METHODS["TaylorSeer at the stack"](1), num_steps=STEPS)
    rig.pipe.transformer = fast
    rig.run()
    rig.pipe.to("cpu").to(dtype)
    assert fast.dtype == dtype
    have = rig.run()
    assert have.dtype == dtype
    assert torch.equal(have, rig.run_uncached())


def check_prepared(rig: Rig, divisor: int = 1) -> None:
    """With the scheduler's timesteps (over `divisor`) prepared, a run gives what it gives without, up to rounding."""
    fast = rig.put("TaylorSeer at branches", 4)
    want = rig.run()
    fast.prepare(rig.pipe.scheduler.timesteps / divisor)
    have = rig.run()
    # matrix products of another batch size round differently, and the sampler carries it on
    torch.testing.assert_close(have, want, rtol=1e-3, atol=1e-4 * float(want.abs().max()))
    assert torch.equal(rig.run(), have)
