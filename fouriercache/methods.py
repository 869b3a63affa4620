"""The algebra of caching methods: where, when, by what, how kept, for which tokens."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, get_args

from .checks import check_choice, check_keywords
from .codecs import Codec, Dense
from .codecs.base import StoredType
from .errors import MethodError
from .predictors import Predictor
from .schedules import Schedule
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
        _check_slots(self.codec, self.predictor)

    def with_(self, **changes: Any) -> Method:
        """Return this method with other answers, `TaylorSeer().with_(site="stack")`.

        Raises MethodError when a keyword is not a field of Method, or its value does not fit.
        """
        check_keywords("Method.with_", changes, [known.name for known in fields(self)])
        return replace(self, **changes)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name:
        raise MethodError(
            f"A method needs a name, got {name!r}.\n"
            f"  where: Method(name={name!r})\n"
            "  Pass a word for tables and reports, say name='mine'."
        )


def _check_slots(codec: Codec, predictor: Predictor) -> None:
    if codec.storage.slots == "older" and predictor.history < 2:
        raise MethodError(
            f"The codec {codec.name!r} encodes older features alone, and {predictor.name!r} reads the newest alone.\n"
            f"  where: Method(codec={codec!r}, predictor={predictor!r})\n"
            "  Use slots='all', or a predictor that reads more of the history."
        )
    if predictor.needs_gram and (codec.storage.slots == "older" or codec.storage.dtype == "int8"):
        raise MethodError(
            f"The predictor {predictor.name!r} multiplies the kept features with each other, and the codec "
            f"{codec.name!r} keeps them in a form in which it cannot.\n"
            f"  where: Method(codec={codec!r}, predictor={predictor!r})\n"
            "  Keep all features alike, in floating point: Dense(), LowPass(keep) or Quantized('bfloat16')."
        )


def _check_part(question: str, answer: object, protocol: type, example: str) -> None:
    if isinstance(answer, type):
        raise MethodError(
            f"Method needs a value for {question}, got the class {answer.__name__} itself.\n"
            f"  where: Method({question}={answer.__name__})\n"
            f"  Construct it, as in {question}={example}."
        )
    if not isinstance(answer, protocol):
        if question == "codec" and isinstance(answer, str):
            example = f"fc.Quantized({answer!r})" if answer in get_args(StoredType) else "fc.Quantized('int8')"
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
