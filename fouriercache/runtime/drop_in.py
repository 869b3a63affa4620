"""What stands in a denoiser's place: an optimised model, or a bundle of one. Each thread has a request of its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager

from torch import Tensor, nn

from fouriercache.preconditions import refuse_second_cache
from fouriercache.runtime.request import Request
from fouriercache.runtime.rules import Rules


class DropIn(nn.Module):
    """Serves calls by requests, each of which has a trajectory of its own.

    Attributes:
        rules: how trajectories are told apart. method: what is cached, when, and how it is predicted.
    """

    def __init__(self, rules: Rules) -> None:
        super().__init__()
        self.rules, self.method = rules, rules.method
        self._local = threading.local()

    @property
    def session(self) -> Request:
        """The request that a call uses in this thread."""
        if not hasattr(self._local, "request"):
            self._local.request = self.new_session()
        found: Request = self._local.request
        return found

    def new_session(self, *, num_steps: int | None = None) -> Request:  # noqa: ARG002  # for those who make them
        """Return a request with its own state; call it like the model. Requests do not disturb each other.

        Args:
            num_steps: denoising steps of its trajectories; those that this was made for when not given. Graphs do not
                depend on it, so none is captured anew.

        Raises:
            MethodError: it is no number of steps, or the method is made for another.
            CalibrationError: the method was calibrated for the timesteps of another number of steps.
        """
        raise TypeError(f"{type(self).__name__} makes no requests")

    def prepare(self, timesteps: Sequence[float] | Tensor) -> None:
        """Fix this thread's timesteps, so that the conditioning subgraph runs once for all; see `Request.prepare`."""
        self.session.prepare(timesteps)

    def reset(self) -> None:
        """Forget this thread's trajectory; the next call begins a new one."""
        self.session.reset()

    def cache_context(self, name: str, **information: object) -> AbstractContextManager[None]:
        """Name the pass that calls inside belong to ("cond", "uncond"), as diffusers' pipelines do."""
        return self.session.cache_context(name, **information)

    enable_cache = staticmethod(refuse_second_cache)

    @property
    def cache_bytes(self) -> int:
        """Bytes of features this thread's request holds now: what other caches mean by their size."""
        return self.session.cache_bytes

    @property
    def held_bytes(self) -> int:
        """Bytes of everything this thread's request holds now: features, and what was computed ahead or remembered."""
        return self.session.held_bytes

    @property
    def schedule(self) -> tuple[int, ...] | None:
        """The computed steps of a trajectory, or None when they cannot be told beforehand.

        That is when the number of steps is not known, or the schedule decides while the trajectory runs;
        `session.computed_steps` then says what was computed.
        """
        return self.method.schedule.steps(self.session.num_steps)
