"""What every request of one optimised model has in common before it begins."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fouriercache.errors import CalibrationError
from fouriercache.methods import Method
from fouriercache.runtime.clock import Direction
from fouriercache.runtime.session import Session
from fouriercache.tokens import partial_tokens


@dataclass(frozen=True)
class Rules:
    """How trajectories are told apart and served; call it for a session that follows them.

    `num_steps`, `passes_per_step` and `direction` are described at `Clock`, `timesteps` at `Session`, which also says
    what is raised. It is data, so an optimised module can be pickled, and a bundle can say it.
    """

    method: Method
    num_steps: int | None = None
    passes_per_step: int | None = None
    direction: Direction = "down"
    timesteps: tuple[float, ...] | None = None

    def of_length(self, num_steps: int | None) -> Rules:
        """Return the same rules for trajectories of so many steps; these when none is given.

        Raises:
            CalibrationError: the method was calibrated for the timesteps of another number of steps.
        """
        if num_steps is None:
            return self
        if self.timesteps is not None and num_steps != len(self.timesteps):
            raise CalibrationError(
                f"the method was calibrated for {len(self.timesteps)} steps and their timesteps, and a session asks "
                f"for {num_steps}.\n  Calibrate for {num_steps} steps, and optimise with that calibration."
            )
        return replace(self, num_steps=num_steps)

    def __call__(self) -> Session:
        """Return a new session."""
        return Session(
            self.method.schedule,
            self.method.predictor,
            self.num_steps,
            self.passes_per_step,
            self.direction,
            self.timesteps,
            partial_tokens(self.method.tokens),
        )
