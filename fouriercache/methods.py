"""The algebra of caching methods: where, when, by what, how kept, for which tokens. Published methods are presets."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from types import MappingProxyType
from typing import Any

from .checks import check_choice, check_whole, suggest
from .codecs import Codec, Dense
from .errors import MethodError
from .predictors import Predictor, Reuse, Taylor
from .schedules import Interval, Schedule
from .tokens import All, Tokens

SITES = ("branch", "block", "stack")


@dataclass(frozen=True)
class Method:
    """One caching method: the answers to five questions, each a frozen dataclass or a word.

    `site` says where a value is replaced: "branch" (each attention or MLP output, before its gate), "block" (the
    residual of each block) or "stack" (the residual of the whole stack of blocks, one tensor). `schedule` says when
    it is computed, `predictor` what stands in for it, `codec` how it is kept, `tokens` for which tokens. `name` is
    for people.

    Two methods with the same answers are equal and have the same hash; `repr` is Python that builds the method again
    and does not change from run to run, so it can be part of a cache key.

    Raises MethodError when a field has a value that does not answer its question.
    """

    name: str
    site: str
    schedule: Schedule
    predictor: Predictor
    codec: Codec = field(default_factory=Dense)
    tokens: Tokens = field(default_factory=All)

    def __post_init__(self) -> None:
        _check_name(self.name)
        check_choice("Method", "site", self.site, SITES)
        _check_part("schedule", self.schedule, Schedule, "Interval(5)")
        _check_part("predictor", self.predictor, Predictor, "Taylor(order=2)")
        _check_part("codec", self.codec, Codec, "Dense()")
        _check_part("tokens", self.tokens, Tokens, "All()")

    def with_(self, **changes: Any) -> Method:
        """Return this method with other answers, `TaylorSeer().with_(site="stack")`.

        Raises MethodError when a keyword is not a field of Method, or its value does not fit.
        """
        _check_keywords("Method.with_", changes, [known.name for known in fields(self)])
        return replace(self, **changes)


def FORA(
    interval: int = 3,
    *,
    site: str = "branch",
    schedule: Schedule | None = None,
    codec: Codec | None = None,
    tokens: Tokens | None = None,
) -> Method:
    """FORA (FORA, src/models.py): compute one step in `interval`, counted back from the last; reuse in between.

    `schedule` takes the place of the interval, so the two are not given together.
    """
    _check_cadence(FORA, interval, schedule)
    published = Interval(interval, warmup=1, anchor="last")
    return Method(
        name="FORA",
        site=site,
        schedule=published if schedule is None else schedule,
        predictor=Reuse(),
        codec=Dense() if codec is None else codec,
        tokens=All() if tokens is None else tokens,
    )


def TaylorSeer(
    interval: int = 5,
    order: int = 2,
    *,
    warmup: int = 2,
    site: str = "branch",
    schedule: Schedule | None = None,
    codec: Codec | None = None,
    tokens: Tokens | None = None,
) -> Method:
    """TaylorSeer: compute the first `warmup` steps, then one in `interval`; extrapolate by a Taylor series in between.

    The schedule is that of TaylorSeer-DiT, cache_functions/cal_type.py, the series that of taylor_utils/__init__.py.
    `warmup` is published as first_enhance: 2 for DiT, 3 for FLUX, 1 for HunyuanVideo and HiDream. The published DiT
    command has interval 4 and order 4. `schedule` takes the place of the interval, so the two are not given together;
    `warmup` then only says from which step on differences are taken, see `Taylor`.
    """
    _check_cadence(TaylorSeer, interval, schedule)
    published = Interval(interval, warmup=warmup, anchor="first")
    return Method(
        name="TaylorSeer",
        site=site,
        schedule=published if schedule is None else schedule,
        predictor=Taylor(order, first_difference=warmup - 1),
        codec=Dense() if codec is None else codec,
        tokens=All() if tokens is None else tokens,
    )


PRESETS: Mapping[str, Callable[..., Method]] = MappingProxyType({"FORA": FORA, "TaylorSeer": TaylorSeer})


def method_from_name(name: str, **options: Any) -> Method:
    """Return the preset called `name`, built with `options`, as a command line gives them.

    Raises MethodError when there is no such preset, it takes no such option, or an option's value makes no sense.
    """
    if name not in PRESETS:
        raise MethodError(
            f"No method is called {name!r}.\n"
            f"  where: method_from_name({name!r})\n"
            f"  Use one of {', '.join(PRESETS)}, or build a Method.{suggest(name, PRESETS)}"
        )
    preset = PRESETS[name]
    _check_keywords(name, options, inspect.signature(preset).parameters)
    return preset(**options)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise MethodError(
            f"A method needs a name, got {name!r}.\n"
            f"  where: Method(name={name!r})\n"
            "  Pass a word for tables and reports, say name='mine'."
        )


def _check_part(question: str, answer: object, protocol: type, example: str) -> None:
    if isinstance(answer, type):
        raise MethodError(
            f"Method needs a value for {question}, got the class {answer.__name__} itself.\n"
            f"  where: Method({question}={answer.__name__})\n"
            f"  Construct it, as in {question}={example}."
        )
    if not isinstance(answer, protocol):
        raise MethodError(
            f"Method needs a value for {question}, got {answer!r} of type {type(answer).__name__}.\n"
            f"  where: Method({question}={answer!r})\n"
            f"  Pass something with the members of {protocol.__name__}, as in {question}={example}."
        )
    # a mutable part, or one whose repr is an address, would let two different methods share a cache key
    if not is_dataclass(answer) or not _is_hashable(answer):
        raise MethodError(
            f"Method needs {question} to be a frozen dataclass with hashable fields, {type(answer).__name__} is not.\n"
            f"  where: Method({question}={answer!r})\n"
            f"  Decorate the class with @dataclass(frozen=True), and use tuples where it holds lists."
        )


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _check_cadence(preset: Callable[..., Method], interval: int, schedule: Schedule | None) -> None:
    owner = preset.__name__
    check_whole(owner, "interval", interval, least=1, advice="interval=1 computes every step, 5 one step in five.")
    if schedule is not None and interval != inspect.signature(preset).parameters["interval"].default:
        raise MethodError(
            f"{owner} got an interval and a schedule, and only one of them can say which steps are computed.\n"
            f"  where: {owner}(interval={interval}, schedule={schedule!r})\n"
            f"  Leave out one of the two."
        )


def _check_keywords(owner: str, given: Iterable[str], known: Collection[str]) -> None:
    for keyword in given:
        if keyword not in known:
            raise MethodError(
                f"{owner} has no field {keyword!r}.\n"
                f"  where: {owner}({keyword}=...)\n"
                f"  Use {', '.join(known)}.{suggest(keyword, known)}"
            )
