"""The calibration set, run with one optimised module whose step table can be changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn, TypeAlias

import torch
from torch import Tensor, nn

from fouriercache.errors import CalibrationError
from fouriercache.fingerprints import fingerprint_inputs
from fouriercache.methods import Method
from fouriercache.optimize import optimize
from fouriercache.predictors import Coefficients, Predictor
from fouriercache.runtime.session import Position
from fouriercache.schedules import FixedSchedule

Sample: TypeAlias = Callable[[nn.Module], Tensor]
"""Runs the calibration set with the given denoiser; returns its final latents or images, a row for each sample."""

_OnCall: TypeAlias = Callable[[Position, list[Tensor]], list[Tensor] | None]
"""Told of a call's position and floating outputs after each call; may return others in their place."""

_BeforeCall: TypeAlias = Callable[[tuple[Any, ...], dict[str, Any]], None]
"""Told of a call's arguments before it is made."""

Answers: TypeAlias = Callable[..., Coefficients]
"""What `Predictor.table` is: the scalars of a prediction."""


@dataclass(frozen=True, eq=False)
class _Changing(FixedSchedule):
    """A schedule whose table is changed between trajectories, so that many tables share one captured module."""

    name: ClassVar[str] = "changing"
    needs_num_steps: ClassVar[bool] = False

    table: list[int] = field(default_factory=list)

    def steps(self, num_steps: int | None) -> None:  # noqa: ARG002 - the protocol's signature
        return None

    def is_computed(self, step: int, num_steps: int | None) -> bool:  # noqa: ARG002 - the protocol's signature
        return step in self.table


@dataclass(frozen=True, eq=False)
class _Borrowed:
    """A predictor whose answers come from another that is changed between runs; its form is that of `form`."""

    name: ClassVar[str] = "borrowed"

    form: Predictor
    current: list[Answers]

    @property
    def history(self) -> int:
        return self.form.history

    @property
    def edges(self) -> tuple[float, ...]:
        return self.form.edges

    @property
    def per_site(self) -> bool:
        return self.form.per_site

    @property
    def needs_gram(self) -> bool:
        return self.form.needs_gram

    def table(self, *question: Any) -> Coefficients:
        return self.current[0](*question)


class Loop:
    """Runs `sample` with `model` and `method`, at any table of computed steps.

    Everything runs through `optimize`, so what is measured here is what will run; programs are captured once.

    Attributes:
        first_call: fingerprint of the inputs of the set's first call, which tells one set from another.

    Raises CalibrationError when `sample` does not call the denoiser; whatever `optimize` raises.
    """

    def __init__(
        self, model: nn.Module, method: Method, sample: Sample, num_steps: int, options: Mapping[str, Any]
    ) -> None:
        self.num_steps = num_steps
        self.options = dict(options)
        self._sample = sample
        self._schedule = _Changing()
        self._own: Answers = method.predictor.table
        self._answers = [self._own]
        borrowed = method.with_(schedule=self._schedule, predictor=_Borrowed(method.predictor, self._answers))
        self._fast = optimize(model, borrowed, num_steps=num_steps, **options)
        self.first_call = self._find_first_call()

    def run(
        self,
        table: tuple[int, ...],
        on_call: _OnCall | None = None,
        *,
        before_call: _BeforeCall | None = None,
        answers: Answers | None = None,
    ) -> Tensor:
        """Return what the set comes to with `table` computed: float32 [n, ...] on the CPU.

        `answers` gives the scalars of predictions, if not the method's own predictor; they have its form.

        Raises CalibrationError when the result is no finite tensor with a row for each sample, or `sample` did not
        begin as it did before; whatever `optimize` and the denoiser raise.
        """
        self._schedule.table[:] = table
        self._answers[0] = self._own if answers is None else answers
        self._fast.reset()
        hooks = [self._fast.register_forward_pre_hook(self._check_first_call, with_kwargs=True)]
        if before_call is not None:
            hooks.append(self._fast.register_forward_pre_hook(_pre_hook_of(before_call), with_kwargs=True))
        if on_call is not None:
            hooks.append(self._fast.register_forward_hook(hook_of(on_call, self._fast)))
        try:
            with torch.no_grad():
                return _checked(self._sample(self._fast))
        finally:
            for hook in hooks:
                hook.remove()
            self._fast.reset()

    def _find_first_call(self) -> str:
        """Return the fingerprint of the inputs of the set's first call. The call itself is not made."""
        hook = self._fast.register_forward_pre_hook(_stop_at_first_call, with_kwargs=True)
        try:
            self._sample(self._fast)
        except _FirstCallError as seen:
            return seen.fingerprint
        finally:
            hook.remove()
        raise CalibrationError(
            "sample(denoiser) never called the denoiser.\n"
            "  Run the whole sampling loop with the module it is given, not with the original."
        )

    def _check_first_call(self, fast: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if fast.session.position is None and fingerprint_inputs(args, kwargs) != self.first_call:
            raise CalibrationError(
                "sample(denoiser) begins with other inputs than it did before, so its results cannot be compared.\n"
                "  Draw the noise from a generator that is seeded inside sample, and keep prompts and classes fixed."
            )


class _FirstCallError(Exception):
    def __init__(self, fingerprint: str) -> None:
        super().__init__("the first call of the denoiser")
        self.fingerprint = fingerprint


def _stop_at_first_call(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> NoReturn:
    raise _FirstCallError(fingerprint_inputs(args, kwargs))


def _pre_hook_of(before_call: _BeforeCall) -> Callable[..., None]:
    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        before_call(args, kwargs)

    return hook


def hook_of(on_call: _OnCall, fast: Any) -> Callable[..., Any]:
    """Return a forward hook of an optimised module that tells `on_call`."""

    def hook(_: nn.Module, __: Any, output: Any) -> Any:
        leaves, tree = torch.utils._pytree.tree_flatten(output)
        places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, Tensor) and leaf.is_floating_point()]
        given = on_call(fast.session.position, [leaves[place].detach() for place in places])
        if given is None:
            return None
        for place, leaf in zip(places, given, strict=True):
            leaves[place] = leaf
        return torch.utils._pytree.tree_unflatten(leaves, tree)

    return hook


def _checked(found: object) -> Tensor:
    if not isinstance(found, Tensor) or not found.is_floating_point() or found.ndim < 2:
        what = f"{found.dtype} {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise CalibrationError(
            f"sample(denoiser) must return a floating point tensor [n, ...], a row for each sample; it gave {what}.\n"
            "  Return the final latents, or the images as a tensor."
        )
    value = found.detach().float().cpu()
    if not bool(torch.isfinite(value).all()):
        raise CalibrationError("The calibration set came to NaN or inf.\n  Check the model, the sampler and dtype.")
    return value


def relative_error(value: Tensor, reference: Tensor) -> float:
    """Return the mean over rows of ||value - reference|| / ||reference||, L2 norms in float64."""
    difference = (value.double() - reference.double()).flatten(1).norm(dim=1)
    return float((difference / reference.double().flatten(1).norm(dim=1)).mean())
