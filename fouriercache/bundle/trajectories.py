"""Whether what a manifest says of a trajectory fits its method, so that no step of a run, or of a client, is wrong."""

from __future__ import annotations

from fouriercache.bundle.joints import unfit
from fouriercache.bundle.manifest import Form, Manifest, Step, Trajectory
from fouriercache.errors import BundleError, MethodError
from fouriercache.methods import Method
from fouriercache.predictors import check_length


def check_trajectory(manifest: Manifest) -> None:
    """Raise BundleError when the number of steps, the timesteps or the table of steps are not those of the method."""
    given, method = manifest.trajectory, manifest.method
    for name, value in {"num_steps": given.num_steps, "passes_per_step": given.passes_per_step}.items():
        if value is not None and value < 1:
            raise _unfit(f"{name} {value}, and it counts from 1")
    if given.timesteps is not None and len(given.timesteps) != given.num_steps:
        raise _unfit(f"{len(given.timesteps)} timesteps, and num_steps {given.num_steps}")
    if given.num_steps is None and method.schedule.needs_num_steps:
        raise _unfit(f"no num_steps, which the schedule {method.schedule.name!r} needs")
    try:
        computed = method.schedule.steps(given.num_steps)
        check_length(method.predictor, given.num_steps)
    except MethodError as error:
        what = str(error).splitlines()[0]
        raise _unfit(f"num_steps {given.num_steps}, which do not fit its method: {what}") from error
    if given.steps is not None:
        for form in manifest.forms:
            _check_steps(given, given.steps, method, computed, form)


def _check_steps(
    given: Trajectory, steps: tuple[Step, ...], method: Method, computed: tuple[int, ...] | None, form: Form
) -> None:
    if len(steps) != given.num_steps:
        raise _unfit(f"a table of {len(steps)} steps, and num_steps {given.num_steps}")
    if computed is None or method.predictor.needs_gram:
        raise _unfit("a table of steps, and its method decides in the run")
    keys = {(mode.mode, mode.refreshed) for mode in form.modes}
    sites, bands = len(form.sites), len(method.predictor.edges) + 1
    for number, step in enumerate(steps):
        if (step.mode == "compute") != (number in computed):
            raise unfit(
                "trajectory", f"the mode {step.mode!r} at step {number}, and its schedule computes {list(computed)}"
            )
        if (step.mode, step.refreshed) not in keys:
            raise unfit(
                "trajectory",
                f"the mode {step.mode!r} with the sites {list(step.refreshed)} at step {number}, and no graph",
            )
        shape = {(len(site), len(row)) for site in step.coefficients for row in site or [()]}
        if len(step.coefficients) not in (1, sites) or shape != {(bands, method.predictor.history)}:
            raise unfit(
                "trajectory", f"other coefficients at step {number} than its predictor's {method.predictor.history}"
            )
        if len(step.counts) not in (0, sites) or any(step.counts) != (step.mode == "partial"):
            raise _unfit(f"counts of tokens at step {number} that are not those of {sites} sites")


def _unfit(what: str) -> BundleError:
    return unfit("trajectory", what)
