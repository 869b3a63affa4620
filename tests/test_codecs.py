"""Codecs: what they refuse, and whole trajectories whose features are kept in another form."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import fouriercache as fc
from fouriercache.codecs import Codec, Storage
from fouriercache.errors import MethodError, UnsupportedModelError
from fouriercache.testing import feed
from tests.tiny import COMPUTED, METHOD, ROUNDING, TIMESTEPS, denoise, distance, labels, noise, step_inputs, tiny_dit

FEATURE = 2 * 16 * 16 * 4  # bytes of [batch, tokens, width] in float32
# An entry is off by at most 1/254 of its token's largest; a prediction weights two features by at most 3 and -2.
INT8 = 5 / 254
BANDS = fc.Banded((0.3, 0.6), (fc.Taylor(1), fc.Taylor(1), fc.Taylor(1)))


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_dit()


@pytest.fixture(scope="module")
def dense(model: Any) -> dict[str, list[torch.Tensor]]:
    """Trajectories of features kept as they are, by kind of site."""
    return {site: run(model, METHOD.with_(site=site))[0] for site in fc.methods.SITES}


def run(model: Any, method: fc.Method, **options: Any) -> tuple[list[torch.Tensor], fc.OptimizedModule]:
    fast = fc.optimize(model, method, num_steps=len(TIMESTEPS), **options)
    return denoise(fast), fast


@settings(deadline=None)
@given(keep=st.floats(0, 1, exclude_min=True), basis=st.sampled_from(["dct", "dft", "frame_dct"]))
def test_repr_of_a_codec_builds_it_again(keep: float, basis: Any):
    codec = fc.LowPass(keep, basis)
    assert eval(repr(codec), {"LowPass": fc.LowPass}) == codec
    assert codec.storage == Storage(basis, keep)
    assert hash(codec) == hash(fc.LowPass(keep, basis))


def test_codecs_have_the_members_of_their_question():
    assert all(isinstance(codec, Codec) for codec in (fc.Dense(), fc.LowPass(0.5), fc.Quantized()))
    assert [codec.needs_grid for codec in (fc.Dense(), fc.LowPass(0.5), fc.Quantized())] == [False, True, False]
    assert fc.Dense().storage == Storage()
    assert fc.Quantized("bfloat16", "older").storage == Storage(dtype="bfloat16", slots="older")


@pytest.mark.parametrize("keep", [0, 0.0, -0.1, 1.01, float("nan"), float("inf"), True, "0.5", None])
def test_a_share_that_keeps_nothing_or_too_much_is_refused(keep: Any):
    with pytest.raises(MethodError, match=r"(?s)LowPass needs keep to be .*where: LowPass\(keep="):
        fc.LowPass(keep)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: fc.LowPass(0.5, "fft"), "basis 'fft'"),  # type: ignore[arg-type]
        (lambda: fc.LowPass(0.5, slots="newest"), "slots 'newest'"),  # type: ignore[arg-type]
        (lambda: fc.LowPass(0.5, dtype="int4"), "dtype 'int4'"),  # type: ignore[arg-type]
        (lambda: fc.Quantized("float32"), "dtype 'float32'"),  # type: ignore[arg-type]
        (lambda: fc.Quantized(slots=None), "slots None"),  # type: ignore[arg-type]
    ],
)
def test_a_word_that_is_no_choice_is_refused(make: Any, field: str):
    with pytest.raises(MethodError, match=f"does not know {field}"):
        make()


def test_encoding_the_older_features_needs_older_features():
    with pytest.raises(MethodError, match=r"(?s)encodes older features alone, and 'reuse'.*slots='all'"):
        fc.FORA(codec=fc.Quantized(slots="older"))


@pytest.mark.parametrize("site", fc.methods.SITES)
@pytest.mark.parametrize(
    "codec",
    [fc.LowPass(1.0), fc.LowPass(1.0, "dft", "older"), fc.LowPass(1.0, "frame_dct")],
    ids=repr,
)
def test_keeping_every_coefficient_changes_nothing_but_rounding(model: Any, dense: Any, site: str, codec: Any):
    have, _ = run(model, METHOD.with_(site=site, codec=codec))
    assert 0 < distance(have, dense[site]) < ROUNDING


@pytest.mark.parametrize("site", fc.methods.SITES)
def test_equal_bands_predict_what_one_band_does(model: Any, dense: Any, site: str):
    have, fast = run(model, METHOD.with_(site=site, predictor=BANDS))
    assert 0 < distance(have, dense[site]) < ROUNDING
    assert fast.cache_bytes == len(fast.report.sites) * 2 * FEATURE


def test_unequal_bands_predict_something_else(model: Any, dense: Any):
    other = fc.Banded((0.3,), (fc.Reuse(), fc.Taylor(1)))
    have, _ = run(model, METHOD.with_(site="stack", predictor=other))
    assert distance(have, dense["stack"]) > 100 * ROUNDING


@pytest.mark.parametrize("site", fc.methods.SITES)
def test_int8_stays_within_its_bound(model: Any, dense: Any, site: str):
    have, _ = run(model, METHOD.with_(site=site, codec=fc.Quantized()))
    assert 0 < distance(have, dense[site]) < INT8


@pytest.mark.parametrize(
    ("codec", "bound"),
    [
        (fc.Quantized("bfloat16"), 5 * 2**-8),
        (fc.Quantized("float16"), 5 * 2**-11),
        (fc.Quantized(slots="older"), INT8),
        (fc.LowPass(1.0, dtype="int8"), 4 * INT8),  # a token is a sum over as many coefficients, each off on its own
        (fc.LowPass(1.0, slots="older", dtype="bfloat16"), 4 * 5 * 2**-8),
    ],
    ids=repr,
)
def test_smaller_numbers_stay_within_their_bounds(model: Any, dense: Any, codec: Any, bound: float):
    have, _ = run(model, METHOD.with_(site="stack", codec=codec))
    assert 0 < distance(have, dense["stack"]) < bound


@pytest.mark.parametrize(
    ("codec", "predictor", "bytes_kept"),
    [
        (fc.LowPass(0.25), fc.Taylor(1), 2 * FEATURE / 4),
        (fc.LowPass(0.25, slots="older"), fc.Taylor(1), FEATURE + 2 * FEATURE / 4),
        (fc.LowPass(0.25), BANDS, 2 * FEATURE / 4),
        (fc.Quantized("bfloat16"), fc.Taylor(1), 2 * FEATURE / 2),
        (fc.Quantized(), fc.Taylor(1), 2 * (FEATURE / 4 + 2 * 16 * 4)),
        (fc.Quantized(slots="older"), BANDS, FEATURE + 2 * (FEATURE / 4 + 2 * 16 * 4)),
        (fc.Quantized(slots="older"), fc.Taylor(2), FEATURE + 3 * (FEATURE / 4 + 2 * 16 * 4)),
    ],
    ids=repr,
)
def test_cache_bytes_are_those_of_the_encoded_form(model: Any, codec: Any, predictor: Any, bytes_kept: float):
    out, fast = run(model, METHOD.with_(site="stack", codec=codec, predictor=predictor))
    assert fast.cache_bytes == bytes_kept
    assert all(bool(tensor.isfinite().all()) for tensor in out)


@pytest.mark.parametrize("predictor", [fc.Taylor(1), BANDS], ids=["one band", "bands"])
@pytest.mark.parametrize(
    "codec", [pytest.param(fc.LowPass(0.25), marks=pytest.mark.exhaustive), fc.Quantized(slots="older")], ids=repr
)
def test_the_single_graph_gives_what_the_two_give(model: Any, codec: Any, predictor: Any):
    method = METHOD.with_(site="stack", codec=codec, predictor=predictor)
    inputs = step_inputs(noise(), 900, labels())
    fast = fc.optimize(model, method, num_steps=len(TIMESTEPS), example_inputs=inputs)
    outline, compute, reuse = fast.program("cond"), fast.program("compute"), fast.program("reuse")
    with torch.no_grad():
        values = compute.module()(*feed(compute, inputs))
        kept = {o.name: value for o, value in zip(compute.outputs, values, strict=True) if o.role == "slot"}
        slots = {name: kept[slot.column] for name, slot in fast.program("canonical").slots.items()}
        (wanted,) = reuse.inputs_of("coefficients")
        coefficients = torch.arange(1.0, wanted.meta["val"].numel() + 1).view(wanted.meta["val"].shape) / 3
        given_all = {**inputs, **slots, "coefficients": coefficients}
        for refresh, program in ((True, compute), (False, reuse)):
            want = program.module()(*feed(program, given_all))[0]
            have = outline.module()(*feed(outline, {**given_all, "refresh": torch.tensor(refresh)}))[0]
            torch.testing.assert_close(have, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("codec", [fc.LowPass(1.0), fc.Quantized()], ids=repr)
def test_half_precision_is_transformed_and_summed_in_float32(dtype: torch.dtype, codec: Any):
    model = tiny_dit().to(dtype)
    x = noise().to(dtype)
    want = denoise(fc.optimize(model, METHOD, num_steps=len(TIMESTEPS)), x=x)
    fast = fc.optimize(model, METHOD.with_(codec=codec), num_steps=len(TIMESTEPS))
    # Each feature is rounded once more when it is kept, and enters with a weight of at most 3; eight steps.
    bound = INT8 if codec == fc.Quantized() else 0.0
    assert distance(denoise(fast, x=x), want) < bound + 8 * 5 * torch.finfo(dtype).eps
    assert fast.session._trajectory.passes


def test_a_dtype_that_is_no_smaller_is_refused_in_the_report():
    model = tiny_dit().to(torch.bfloat16)
    inputs = step_inputs(noise().to(torch.bfloat16), 900, labels())
    method = METHOD.with_(site="stack", codec=fc.Quantized("float16"))
    fast = fc.optimize(model, method, num_steps=len(TIMESTEPS), example_inputs=inputs)
    assert "no wider than torch.float16" in fast.report.refused["EncodeCache"][0].reason


@pytest.mark.parametrize("method", [METHOD.with_(codec=fc.LowPass(0.5)), METHOD.with_(predictor=BANDS)], ids=str)
def test_a_grid_that_does_not_fit_raises_and_says_how_to_pass_one(model: Any, method: fc.Method):
    with pytest.raises(
        UnsupportedModelError, match=r"(?s)1 x 5 x 5 has 25 tokens.*streams of 16 tokens.*grid=TokenGrid"
    ):
        run(model, method, grid=fc.TokenGrid(1, 5, 5))


def test_scalars_for_another_number_of_sites_are_refused(model: Any):
    rows = tuple((((1.0,),), ((1.0,),)) for step in range(len(TIMESTEPS)) if step not in COMPUTED)
    method = METHOD.with_(predictor=fc.Calibrated(COMPUTED, rows))
    with pytest.raises(MethodError, match="scalars for 2 sites, the model has 4"):
        run(model, method)


def test_every_site_is_predicted_by_its_own_row(model: Any):
    """All sites but one reuse; that one's row says zero, which is as good as no branch at all."""
    predicted = [step for step in range(len(TIMESTEPS)) if step not in COMPUTED]
    reuse = fc.Calibrated(COMPUTED, tuple((((1.0,),),) * 4 for _ in predicted))
    want, _ = run(model, METHOD.with_(predictor=fc.Reuse()))
    have, _ = run(model, METHOD.with_(predictor=reuse))
    assert distance(have, want) < ROUNDING
    sites = [distance(run(model, METHOD.with_(predictor=_without(site, predicted)))[0], want) for site in range(4)]
    assert len(set(sites)) == 4
    assert min(sites) > 10 * ROUNDING


def _without(site: int, predicted: list[int]) -> fc.Calibrated:
    table = tuple((((0.0 if other == site else 1.0),),) for other in range(4))
    return fc.Calibrated(COMPUTED, tuple(table for _ in predicted))


@pytest.mark.slow
@pytest.mark.parametrize("codec", [fc.LowPass(0.25), fc.Quantized(slots="older")], ids=repr)
def test_inductor_gives_what_eager_gives(model: Any, codec: Any):
    method = METHOD.with_(site="stack", codec=codec, predictor=BANDS)
    want, _ = run(model, method)
    have, _ = run(model, method, backend="inductor")
    assert distance(have, want) < (INT8 if codec.storage.dtype else 10 * ROUNDING)  # a rounding may fall the other way
