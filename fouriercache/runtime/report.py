"""What `fast.report` tells of a capture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fouriercache.checks import check_whole
from fouriercache.cost import Device, ModeCost, cost_of
from fouriercache.methods import Method
from fouriercache.program import Block, NoMatch, Site, TokenGrid
from fouriercache.runtime.estimate import estimate_cost
from fouriercache.runtime.estimates import CostEstimate
from fouriercache.schedules import Decision
from fouriercache.steps import StepPrograms, Steps


@dataclass(frozen=True)
class Report:
    """Facts of one capture.

    Attributes:
        sites: the sites that hold a cache. found: every site, by kind of site.
        blocks: the repeated blocks. refused: pass name -> why it left something alone.
        grid: the token grid, or None when the graph does not show it.
        modes: cost of one step, "compute" and "reuse", of a method that chooses tokens also "partial"; hoisted parts
            are counted in.
        moving: the same without what is hoisted: the cost once `prepare` has run. Both have "probe" for a schedule that
            looks at every step.
        decisions: what an adaptive schedule decided about each step of the trajectory that this thread is in, for each
            pass, and whether a distance was moved into a polynomial's range for it.
        is_from_disk: whether the capture comes from `cache_dir`.
        steps: the programs of the capture. method: what they are for. num_steps: of a trajectory, None if unknown.
    """

    sites: tuple[Site, ...]
    found: Mapping[str, tuple[Site, ...]]
    blocks: tuple[Block, ...]
    refused: Mapping[str, list[NoMatch]]
    grid: TokenGrid | None
    modes: Mapping[str, ModeCost]
    moving: Mapping[str, ModeCost]
    decisions: Mapping[int | str, tuple[Decision, ...]]
    steps: Steps = field(repr=False)
    method: Method = field(repr=False)
    num_steps: int | None = None
    is_from_disk: bool = False

    def cost(
        self,
        device: Device | str = "h200",
        *,
        num_steps: int | None = None,
        computed: Sequence[int] | None = None,
        batch: int | None = None,
        prepared: bool = False,
        passes: int = 1,
    ) -> CostEstimate:
        """Predict what steps and trajectories cost on a device, from the graphs alone.

        Args:
            device: the name of a data sheet ("h200", "rtx4090", ...), or a device that you describe. For this machine's
                processor, measure it: `fouriercache.measure_cpu()`.
            num_steps: of a trajectory; those of `optimize` when not given.
            computed: the computed steps, in place of the schedule's: those of a run, for a schedule that decides as it
                runs.
            batch: samples in a call, where the capture has a dynamic batch; that of the capture when not given.
            prepared: whether `prepare` has fixed the timesteps, so that what depends on them alone runs in one batch.
            passes: calls of the model in a step, each with features of its own.

        Raises:
            MethodError: there is no such data sheet, it has no peak for a dtype of the model, `computed` is no table of
                steps, or the capture does not serve the batch.
        """
        for name, value in {"passes": passes, "batch": 1 if batch is None else batch}.items():
            check_whole("Report.cost", name, value, least=1, advice="It counts calls of a step, or samples in a call.")
        return estimate_cost(
            self.steps,
            self.method,
            device,
            num_steps=self.num_steps if num_steps is None else num_steps,
            computed=computed,
            batch=batch,
            prepared=prepared,
            passes=passes,
        )


def report_of(
    steps: Steps,
    method: Method,
    num_steps: int | None = None,
    decisions: Mapping[int | str, tuple[Decision, ...]] | None = None,
) -> Report:
    """Collect the facts of a capture, and of the trajectory that runs."""
    canonical = steps.canonical
    parts: dict[str, StepPrograms] = dict(steps.modes.items())
    if steps.probe is not None:
        parts["probe"] = steps.probe.parts
    refused: dict[str, list[NoMatch]] = {}
    for program in (canonical, *(programs.whole for programs in parts.values())):
        for name, reasons in program.refused.items():
            refused.setdefault(name, []).extend(r for r in reasons if r not in refused.get(name, ()))
    return Report(
        sites=canonical.sites,
        found=canonical.found,
        blocks=canonical.blocks,
        refused=refused,
        grid=canonical.grid,
        modes={mode: cost_of(programs.whole) for mode, programs in parts.items()},
        moving={mode: cost_of(programs.moving) for mode, programs in parts.items()},
        decisions=decisions or {},
        steps=steps,
        method=method,
        num_steps=num_steps,
        is_from_disk=steps.capture.is_from_disk,
    )
