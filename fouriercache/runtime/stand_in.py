"""`StandIn`: what is put in a model's place answers to the model's names, and hands on what is set by them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import MethodType
from typing import Any

from torch import nn

_HOOKS = frozenset(("_hf_hook", "_old_forward", "_diffusers_hook"))
"""What accelerate and diffusers note in a module whose `forward` they wrap: each of the two may have its own."""


class StandIn:
    """Speaks its model's names: attributes are read, set and deleted in the model itself, whose class it says it has.

    Names of its own, those of its class and of what it was made with, stay its own. Where the model would give itself,
    as `to` and `eval` do, it gives itself, too: nobody who meant to move it is left with the model.
    """

    _model: nn.Module

    def _stand_for(self, model: nn.Module) -> None:
        """Take the names of a model; what is set before is this object's own."""
        # diffusers asks an object for its module and class where it saves a pipeline: both are the model's
        vars(self).update(__module__=type(model).__module__, _model=model)

    def __getattr__(self, name: str) -> Any:
        if hasattr(type(self), name):  # a property that failed, which is no missing attribute
            return object.__getattribute__(self, name)  # raises its error again, in its own words
        if self._is_own(name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        owner = self._owner_of(name)
        return self._in_place_of(owner, getattr(owner, name))

    def __setattr__(self, name: str, value: Any) -> None:
        if self._is_own(name):
            object.__setattr__(self, name, value)
        else:
            setattr(self._model, name, value)

    def __delattr__(self, name: str) -> None:
        if self._is_own(name):
            object.__delattr__(self, name)
        else:
            delattr(self._model, name)

    def __dir__(self) -> list[str]:
        return sorted({*dir(type(self)), *vars(self), *dir(self._model)})

    @property  # type: ignore[misc]  # typeshed has it writable, for assignments that nobody makes here
    def __class__(self) -> type:
        return type(self._model)

    def _owner_of(self, name: str) -> object:  # noqa: ARG002  # for those who ask others for some names
        """Who is asked for a name that is not this object's own."""
        return self._model

    def _is_own(self, name: str) -> bool:
        """Whether a name is this object's own, and not its model's.

        New names are the model's, but for private ones, by which others note what they did to this very object.
        """
        own = vars(self)
        if "_model" not in own or name in own or hasattr(type(self), name) or name in _HOOKS:
            return True
        return name.startswith("_") and (name.startswith("__") or not hasattr(own["_model"], name))

    def _in_place_of(self, owner: object, found: Any) -> Any:
        """Return what an owner gave, but this object for the owner, also where a method of the owner returns it."""
        if found is owner:
            return self
        if not isinstance(found, MethodType) or found.__self__ is not owner:
            return found
        method: Callable[..., Any] = found

        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            return self if result is owner else result

        return call
