"""What `fast.report` tells of a capture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fouriercache.checks import check_whole
from fouriercache.cost import Device, ModeCost, cost_of, hinted
from fouriercache.errors import MethodError
from fouriercache.methods import Method
from fouriercache.program import Block, NoMatch, Site, TokenGrid, tensor_of
from fouriercache.runtime.estimate import estimate_cost
from fouriercache.runtime.estimates import CostEstimate
from fouriercache.runtime.tables import grid_text, modes_table, refused_table, site_rows, sites_table
from fouriercache.schedules import Decision
from fouriercache.steps import StepPrograms, Steps


@dataclass(frozen=True, repr=False)
class Report:
    """Facts of one capture; `print` shows them as tables.

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
        batch: samples in the call that was captured; None if that is not known.
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
    batch: int | None = None

    def __repr__(self) -> str:
        refused = sum(map(len, self.refused.values()))
        return (
            f"Report({self.method.name}: {len(self.sites)} {self.method.site} sites, {refused} refused, "
            f"modes {', '.join(self.modes)})"
        )

    def __str__(self) -> str:
        modes = [(mode, cost.flops, cost.launches, cost.parameters_read) for mode, cost in self.modes.items()]
        prepared = self.moving["reuse"]
        modes.append(("prepared", prepared.flops, prepared.launches, prepared.parameters_read))
        refused = [
            (name, reason.reason, str(reason.node or ""))
            for name, reasons in self.refused.items()
            for reason in reasons
        ]
        parts = (
            f"{self.method.name}, {self.method.site} sites",
            sites_table(site_rows(self.sites, self.blocks)),
            refused_table(refused),
            grid_text(self.grid),
            modes_table(modes, self.counted_batch),
        )
        return "\n\n".join(part if isinstance(part, str) else part.text() for part in parts)

    @property
    def counted_batch(self) -> int:
        """Samples in the call that `modes` and `moving` are counted for: those of the capture, at least 2 if any do."""
        sample = tensor_of(self.steps.capture.program.inputs_of("sample")[0])
        assert sample is not None
        return hinted(sample.shape[0])

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
            batch: samples in a call, where the capture has a dynamic batch; those of the captured call when not given.
            prepared: whether `prepare` has fixed the timesteps, so that what depends on them alone runs in one batch.
            passes: calls of the model in a step, each with features of its own.

        Raises:
            MethodError: there is no such data sheet, it has no peak for a dtype of the model, `computed` is no table of
                steps, the capture does not serve the batch, or `prepared` is no bool.
        """
        for name, value in {"passes": passes, "batch": 1 if batch is None else batch}.items():
            check_whole("Report.cost", name, value, least=1, advice="It counts calls of a step, or samples in a call.")
        if type(prepared) is not bool:
            raise MethodError(
                f"Report.cost needs prepared to be True or False, got {prepared!r} of type {type(prepared).__name__}.\n"
                f"  where: Report.cost(prepared={prepared!r})\n"
                "  Pass True where fast.prepare fixes the timesteps before each trajectory."
            )
        return estimate_cost(
            self.steps,
            self.method,
            device,
            num_steps=self.num_steps if num_steps is None else num_steps,
            computed=computed,
            batch=self.batch if batch is None else batch,
            prepared=prepared,
            passes=passes,
        )


def report_of(
    steps: Steps,
    method: Method,
    num_steps: int | None = None,
    decisions: Mapping[int | str, tuple[Decision, ...]] | None = None,
    batch: int | None = None,
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
        batch=batch,
    )
