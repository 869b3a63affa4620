"""The presets by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from .. import predictors
from ..checks import check_keywords, suggest
from ..errors import MethodError
from ..methods import Method
from .fora import FORA
from .freqca import FreqCa
from .hicache import HiCache
from .seacache import SeaCache
from .spectrum import Spectrum
from .taylorseer import TaylorSeer
from .teacache import TeaCache
from .toca import ToCa
from .tuned import Tuned

PRESETS: Mapping[str, Callable[..., Method]] = MappingProxyType(
    {
        "FORA": FORA,
        "FreqCa": FreqCa,
        "HiCache": HiCache,
        "SeaCache": SeaCache,
        "Spectrum": Spectrum,
        "TaylorSeer": TaylorSeer,
        "TeaCache": TeaCache,
        "ToCa": ToCa,
        "Tuned": Tuned,
    }
)


def method_from_name(name: str, **options: Any) -> Method:
    """Return the preset called `name`, built with `options`, as a command line gives them.

    Raises MethodError when there is no such preset, it takes no such option, or an option's value makes no sense.
    """
    if name not in PRESETS:
        built = f"fc.Method({name!r}, 'stack', fc.Interval(5, warmup=2), fc.{name}(...))"
        kind = getattr(predictors, str(name), None)
        advice = f"Use one of {', '.join(PRESETS)}, or build a Method.{suggest(name, PRESETS)}"
        if isinstance(kind, type) and isinstance(getattr(kind, "name", None), str):
            advice = f"It is a predictor, which is one part of a method: {built}"
        raise MethodError(f"No method is called {name!r}.\n  where: method_from_name({name!r})\n  {advice}")
    preset = PRESETS[name]
    for option in options:
        takers = [other for other, build in PRESETS.items() if option in inspect.signature(build).parameters]
        if takers and name not in takers:
            raise MethodError(
                f"{name} takes no {option}.\n"
                f"  where: {name}({option}={options[option]!r})\n"
                f"  Leave it out, or use a method that takes one: {', '.join(takers)}.\n"
                f"  {name} takes {', '.join(inspect.signature(preset).parameters)}."
            )
    check_keywords(name, options, inspect.signature(preset).parameters)
    return preset(**options)


def method_for(name: str, num_steps: int | None, /, **options: Any) -> Method:
    """Return what `method_from_name` does, made for trajectories of `num_steps` steps if the preset asks for them."""
    asks = name in PRESETS and "num_steps" in inspect.signature(PRESETS[name]).parameters
    known = {"num_steps": num_steps} if asks and num_steps is not None else {}
    return method_from_name(name, **{**known, **options})
