"""H5's own parts: which truncations are compared, and when 3-D is said to help."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypotheses import h5_video
from hypotheses.h5_video import _boxes, _Encoded
from hypotheses.lab import Lab, Trial
from hypotheses.subjects import VIDEO_MODEL, VIDEOS, Images

import fouriercache as fc


def trial(error: float, size: float) -> Trial:
    return Trial(tuple(error * (1 + 0.01 * k) for k in range(6)), 10, size, Path("none"))


def test_a_truncation_is_compared_with_those_of_the_nearest_sizes():
    encoded = [
        _Encoded("dense", "none", trial(0.1, 100)),
        _Encoded("int8", "none", trial(0.2, 30)),
        _Encoded("short", "none", trial(0.3, 10)),
        _Encoded("flat, least", "2-D", trial(0.7, 20)),
        _Encoded("flat, less", "2-D", trial(0.6, 32)),
        _Encoded("flat", "2-D", trial(0.4, 40)),
        _Encoded("flat, more", "2-D", trial(0.5, 50)),
        _Encoded("deep", "3-D", trial(0.35, 35)),
        _Encoded("deep, most", "3-D", trial(0.1, 90)),
    ]
    (pair,) = _boxes(encoded)  # no frame-wise one has 90 bytes or more
    assert pair.ratio.mean == pytest.approx(0.35 / 0.4)
    assert pair.to_less.mean == pytest.approx(0.35 / 0.6)
    assert pair.to_plain.mean == pytest.approx(0.35 / 0.2)


@pytest.mark.parametrize(
    ("deep", "plain", "verdict"), [(0.5, 1.0, "optional"), (1.0, 1.0, "refuted"), (0.5, 0.1, "refuted")]
)
def test_3d_helps_if_it_beats_2d_and_does_not_lose_to_no_transform(
    monkeypatch: pytest.MonkeyPatch, deep: float, plain: float, verdict: str
):
    def measure(method: fc.Method) -> Trial:
        basis = method.codec.storage.basis
        size = 100 * (method.codec.storage.keep + (basis == "frame_dct"))
        return trial({None: plain, "dct": deep, "frame_dct": 1.0}[basis], 1 if basis is None else size)

    videos = SimpleNamespace(measure=measure, steps=50)
    lab: Any = SimpleNamespace(beside=lambda *_: videos)
    monkeypatch.setattr(h5_video, "fitted_scalars", lambda *_, **__: fc.Newton(2))
    monkeypatch.setattr(h5_video, "about_videos", lambda _: "")
    finding = h5_video.find(lab)
    assert finding.verdict == verdict
    assert "surely better in 3-D" in finding.decided_by


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_lab_of_videos_measures_both_transforms(tmp_path: Path):
    lab = Lab(tmp_path, steps=3, images=Images(seeds=(1,), classes=(0,)), notice=lambda text: None)
    videos = lab.beside(VIDEO_MODEL, VIDEOS)
    assert videos.is_quick
    split = fc.Banded((0.3,), (fc.Reuse(), fc.Newton(1)))
    method = fc.Method("H5", "stack", fc.Table((0, 1)), split)
    found = [videos.measure(method.with_(codec=codec)) for codec in (h5_video.DEEP, h5_video.FLAT)]
    assert found[0].cache_bytes == found[1].cache_bytes
    assert found[0].errors != found[1].errors
    assert len(found[0].errors) == 5
    assert lab.take_commits() == videos.take_commits()
