"""The polynomials that TeaCache was published with, by model.

From the authors' repository (ali-vilab/TeaCache, commit 7c10efc), each from the file named beside it, digit for digit.
Which indicator a polynomial was fitted on, and how many steps are computed whatever is measured, is in the same files.
The fits' ranges and residuals are not published. All are of degree 4, the highest power first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from ..indicators import Indicator, Modulated, TimestepEmbedding
from ..schedules import Polynomial

_EMBEDDING, _PROJECTION = TimestepEmbedding(), TimestepEmbedding(projected=True)


@dataclass(frozen=True)
class PublishedPolynomial:
    """A model's coefficients, what they were fitted on, and the steps at both ends that are always computed."""

    coefficients: tuple[float, ...]
    indicator: Indicator = field(default_factory=Modulated)
    first: int = 1
    last: int = 1

    @property
    def polynomial(self) -> Polynomial:
        """The polynomial, for any distance: no range is published."""
        return Polynomial(self.coefficients)


_FLUX = PublishedPolynomial((498.651651, -283.781631, 55.8554382, -3.82021401, 0.264230861))
_COGVIDEOX_5B = PublishedPolynomial((-1538.80483, 843.202495, -134.363087, 7.97131516, -0.0523162339), _EMBEDDING)
_LUMINA = PublishedPolynomial((393.76566581, -603.50993606, 209.10239044, -23.00726601, 0.86377344))

PUBLISHED_POLYNOMIALS: Mapping[str, PublishedPolynomial] = MappingProxyType(
    {
        "FLUX.1-dev": _FLUX,  # TeaCache4FLUX/teacache_flux.py
        "TangoFlux": _FLUX,  # TeaCache4TangoFlux/teacache_tango_flux.py
        # eval/teacache/experiments/opensora.py, opensora_plan.py, latte.py
        "OpenSora-1.2": PublishedPolynomial((217.546007, -118.329252, 26.8662585, -0.0459364272, 0.048442624)),
        "OpenSora-Plan": PublishedPolynomial((205943.668, -14875.9286, 306.085986, 1.3141808, 0.00239658469)),
        "Latte": PublishedPolynomial((-2464.34137, 308.044764, 80.7447667, -4.11385132, 0.111001402)),
        # TeaCache4CogVideoX1.5/teacache_sample_video.py, TeaCache4ConsisID/teacache_sample_video.py
        "CogVideoX-2b": PublishedPolynomial(
            (-31.0658903, 25.4732368, -5.92380459, 1.75769064, -0.00361568434), _EMBEDDING
        ),
        "CogVideoX-5b": _COGVIDEOX_5B,
        "CogVideoX-5b-I2V": _COGVIDEOX_5B,
        "ConsisID": _COGVIDEOX_5B,
        "CogVideoX1.5-5B": PublishedPolynomial(
            (250.210439, -165.061612, 35.7804877, -0.781551492, 0.0358559703), _EMBEDDING
        ),
        "CogVideoX1.5-5B-I2V": PublishedPolynomial(
            (122.842302, -104.088754, 26.2981677, -0.306009921, 0.037121322), _EMBEDDING
        ),
        # TeaCache4HunyuanVideo/teacache_sample_video.py, TeaCache4Mochi/teacache_mochi.py
        "HunyuanVideo": PublishedPolynomial((733.226126, -401.131952, 67.5869174, -3.149878, 0.0961237896)),
        "Mochi": PublishedPolynomial((-3512.41319, 811.675948, -60.9400215, 2.42429681, 0.00305291719)),
        # TeaCache4LTX-Video/teacache_ltx.py, TeaCache4Cosmos/teacache_sample_video_t2v.py
        "LTX-Video": PublishedPolynomial((21.4700694, -12.8016453, 2.31279151, 0.792487521, 0.00969274326)),
        "Cosmos": PublishedPolynomial((271.156237, -91.9775607, 2.2443725, 2.08355751, 0.14177633)),
        # TeaCache4Lumina-T2X/teacache_lumina_next.py, TeaCache4Lumina2/teacache_lumina2.py
        "Lumina-T2X": _LUMINA,
        "Lumina2-v1": _LUMINA,
        "Lumina2-v2": PublishedPolynomial(
            (225.7042019806413, -608.8453716535591, 304.1869942338369, 124.21267720116742, -1.4089066892956552)
        ),
        # TeaCache4HiDream-I1/teacache_hidream_i1.py; published with a first tenth of the steps, here of 50
        "HiDream-I1": PublishedPolynomial(
            (-31360.5009, -712.425503, 49.1363285, 8.2651549, 0.108053901), _EMBEDDING, first=5, last=0
        ),
        # TeaCache4Wan2.1/teacache_generate.py; "ret" is its --use_ret_steps
        "Wan2.1-T2V-1.3B": PublishedPolynomial(
            (2396.76752, -1311.10545, 201.331979, -8.29855975, 0.137887774), _EMBEDDING
        ),
        "Wan2.1-T2V-14B": PublishedPolynomial(
            (-5784.54975374, 5449.50911966, -1811.16591783, 256.27178429, -13.02252404), _EMBEDDING
        ),
        "Wan2.1-I2V-480P": PublishedPolynomial(
            (-302.33167, 223.948934, -52.546397, 5.8734844, -0.201973289), _EMBEDDING
        ),
        "Wan2.1-I2V-720P": PublishedPolynomial(
            (-114.36346466, 65.26524496, -18.82220707, 4.91518089, -0.23412683), _EMBEDDING
        ),
        "Wan2.1-T2V-1.3B-ret": PublishedPolynomial(
            (-52186.2437, 9230.41404, -528.275948, 13.6987616, -0.0499875664), _PROJECTION, first=5, last=0
        ),
        "Wan2.1-T2V-14B-ret": PublishedPolynomial(
            (-303318.725, 49053.7029, -2655.30556, 58.7365115, -0.315583525), _PROJECTION, first=5, last=0
        ),
        "Wan2.1-I2V-480P-ret": PublishedPolynomial(
            (257151.496, -35422.9917, 1402.86849, -13.5890334, 0.132517977), _PROJECTION, first=5, last=0
        ),
        "Wan2.1-I2V-720P-ret": PublishedPolynomial(
            (8107.0546, 2133.93892, -372.934672, 16.6203073, -0.0417769401), _PROJECTION, first=5, last=0
        ),
    }
)
