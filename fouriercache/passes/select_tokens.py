"""Compute some tokens of a site afresh at a cached step."""

from __future__ import annotations

from dataclasses import dataclass

from fouriercache.errors import PreconditionError, UnsupportedModelError
from fouriercache.passes.base import Pass
from fouriercache.passes.chosen_tokens import Choice, find_maps, insert_choice
from fouriercache.passes.token_wise import TokenRegion, find_region
from fouriercache.program import NoMatch, Program, Site
from fouriercache.schedules import Place
from fouriercache.tokens import PartialTokens, TokenNorm, TopK


@dataclass(frozen=True)
class SelectTokens(Pass):
    """Let a step that predicts an MLP compute it afresh for the tokens with the highest score.

    The prediction of a site becomes: rank the tokens by the score; gather those whose ranks the control input names
    from what enters the branch; run the branch's norm, modulation and MLP on them; scatter the result into the
    prediction. The outcome feeds the stream and is the site's new kept value. How many ranks there are is data: one
    graph serves every ratio. Where the number is the same at every step, it is a size of the graph.

    What the score needs from step to step (ages, what entered, digests of attention maps) is state, in and out.

    Before::

        main(%0: f32[2,6,8] x, %1: f32[2,6,8] slot_0_0 (slot), %2: f32[1] coefficients, %3: bool[] refresh)
          %4: f32[2,6,8] = linear.default(%0, @weight)
          %5: f32[1,2,6,8] = fouriercache.cache_lookup([%1])
          %6: f32[2,6,8] = fouriercache.predict(%5, %2)
          %7: f32[2,6,8] = fouriercache.select(%3, %4, %6)
          return [%7, %4]

    After::

        main(%0: f32[2,6,8] x, %1: f32[2,6,8] slot_0_0 (slot), %2: f32[1] coefficients, %3: bool[] refresh,
             %4: i64[s0] ranks_0)
          %5: f32[2,6,8] = linear.default(%0, @weight)
          %6: f32[1,2,6,8] = fouriercache.cache_lookup([%1])
          %7: f32[2,6,8] = fouriercache.predict(%6, %2)
          ... the score of the tokens, f32[2,6] %8
          %9: i64[2,6] = argsort.default(%8, -1, True)
          %10: i64[2,s0] = index_select.default(%9, 1, %4)
          %11: f32[2,s0,8] = fouriercache.gather_tokens(%0, %10)
          %12: f32[2,s0,8] = linear.default(%11, @weight)
          %13: f32[2,6,8] = fouriercache.scatter_tokens(%7, %10, %12)
          %14: f32[2,6,8] = fouriercache.select(%3, %5, %13)
          return [%14, %14]

    Requires: `InsertGate`, a history of 1; a score that looks at attention maps, `ExposeMaps`.
    Keeps: 1. attention, and every site that is not proved to act on each token alone.
           2. a site whose grid or attention map the score needs and the graph does not show.
           3. a site of which no token is to be computed at any step.
    Error: exact; a step that refreshes computes what it did.
    """

    tokens: PartialTokens = TopK(TokenNorm(), 0.25)  # noqa: RUF009  # frozen: all instances may share it

    def requires(self, program: Program) -> None:
        if not program.inputs_of("refresh"):
            raise PreconditionError(
                "SelectTokens changes the prediction of a site, and there is none to choose.\n  Run InsertGate first."
            )
        if program.history != 1:
            raise PreconditionError(
                f"SelectTokens writes into the one kept value of a site, and {program.history} are kept.\n"
                "  Run InsertCache with history=1."
            )
        if self.tokens.score.needs_grid and program.grid is None:
            reasons = "".join(f"\n    {found.reason}" for found in program.refused.get("FindGrid", ()))
            raise UnsupportedModelError(
                f"the score {self.tokens.score.name!r} needs the token grid, and the graph does not show it.{reasons}\n"
                "  Pass optimize(..., grid=fc.TokenGrid(t, h, w)), or use a score that needs none."
            )

    def rewrite(self, program: Program) -> int:
        if program.inputs_of("control"):
            return 0
        # Every proof is made before the first edit: a cut site's value depends on more than its branch.
        plans = [self._plan(program, position, site) for position, site in enumerate(program.sites)]
        count = 0
        for plan in plans:
            if isinstance(plan, NoMatch):
                self.refuse(program, plan)
            else:
                insert_choice(program, plan)
                count += 1
        return count

    def ensures(self, program: Program) -> None:
        if not program.inputs_of("control"):
            reasons = "\n".join(f"    {found.reason}" for found in program.refused.get("SelectTokens", [])[:8])
            raise UnsupportedModelError(
                f"no site of the model can be computed for some tokens alone.\n{reasons}\n"
                "  Use branch sites and a score that the model has what it takes for, or tokens=All()."
            )

    def _plan(self, program: Program, position: int, site: Site) -> Choice | NoMatch:
        region = find_region(program, site)
        if not isinstance(region, TokenRegion):
            return region
        grid = program.grid
        if self.tokens.score.needs_grid and grid is not None and grid.start + grid.tokens != region.tokens:
            return NoMatch(f"{site.name}: {region.tokens} tokens are not those of the grid", site.value)
        layer = [block.path for block in program.blocks].index(site.block)
        place = Place(layer, site.kind, region.tokens)
        static = self.tokens.count(place, 0, None) if self.tokens.is_static else None
        if static == 0:
            return NoMatch(f"{site.name}: none of its {region.tokens} tokens is to be computed", site.value)
        maps = find_maps(program, site, region, self.tokens.score)
        if isinstance(maps, NoMatch):
            return maps
        return Choice(position, site, region, self.tokens.score, layer, static, maps)
