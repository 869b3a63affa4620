"""When a value is computed: the computed steps of a denoising trajectory.

A step is counted from 0 at the first, noisiest step of a trajectory; a trajectory has `num_steps` of them. Published
code often counts the other way, i = T - 1 ... 0; then step = T - 1 - i.

A new schedule is one frozen dataclass in a file of its own here; it has the members of `Schedule`. One that knows a
step by its number alone extends `FixedSchedule`. One that decides while the trajectory runs names the `indicator` it
looks at, and returns None from `steps`.
"""

from .accumulated import Accumulated
from .base import Decision, FixedSchedule, Place, Schedule, SiteSchedule, TokenCounts
from .growing import Growing
from .interval import Interval
from .per_site import PerSite
from .polynomial import Polynomial, Rescaled
from .table import Table
from .tapered import Tapered

__all__ = [
    "Accumulated",
    "Decision",
    "FixedSchedule",
    "Growing",
    "Interval",
    "PerSite",
    "Place",
    "Polynomial",
    "Rescaled",
    "Schedule",
    "SiteSchedule",
    "Table",
    "Tapered",
    "TokenCounts",
]
