"""`ModelNames`: a drop-in module that answers to the names of its model, and hands on what is set by them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from torch import Tensor, nn

from fouriercache.gates import gate_of
from fouriercache.runtime.drop_in import DropIn
from fouriercache.runtime.stand_in import StandIn

_SHARED = (
    *("_parameters", "_buffers", "_non_persistent_buffers_set", "_modules"),
    *("_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"),
)
"""Tables of `nn.Module` that are the model's own: weights, children, and hooks that are about them."""


class ModelNames(StandIn, DropIn):
    """Speaks its model's names: weights, modules and attributes are read, set and deleted in the model itself.

    Its weights and children are the model's, by the same names, so that `named_modules`, `parameters`, `get_submodule`
    and their like answer as the model does, but for the root, which is this module. Names of its own, those of its
    class and of what it was made with (`method`, `report`, `reset`, ...), stay its own, as do forward and backward
    hooks, which run around its own forward; where the model has such a name too, it is `model`'s to tell.

    """

    @property
    def model(self) -> nn.Module:
        """The original."""
        return self._model

    @model.setter
    def model(self, _: nn.Module) -> None:
        raise AttributeError(
            "an optimised module stays with its model.\n  Optimise the other one: fc.optimize(model, method)."
        )

    def _stand_for(self, model: nn.Module) -> None:
        vars(self).update({name: vars(model)[name] for name in _SHARED})
        super()._stand_for(model)

    def _get_name(self) -> str:
        return type(self).__name__

    @property
    def training(self) -> bool:
        """Whether the model is in training mode."""
        return self.model.training

    @training.setter
    def training(self, mode: bool) -> None:
        if "_model" in vars(self):  # torch sets it before there is one
            self.model.training = mode

    def train(self, mode: bool = True) -> Self:
        """Set the model's mode."""
        self.model.train(mode)
        return self

    def apply(self, fn: Callable[[nn.Module], None]) -> Self:
        """Apply a function to the model and each of its modules."""
        self.model.apply(fn)
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The model's own state dict."""
        with gate_of(self.model):  # or it could be that of a capture, with fake weights
            return self.model.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load into the model; takes effect at once, and between the steps of other threads."""
        with gate_of(self.model).alone():
            return self.model.load_state_dict(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.model._load_from_state_dict(*args, **kwargs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        with gate_of(self.model).alone():
            self.model._apply(fn, recurse)
        return self
