"""The golden of a video model at full size: 40 blocks of 75,600 tokens."""

from __future__ import annotations

import pytest

from pytest_fouriercache import GraphGolden
from tests.golden_cases import compare_with_golden


@pytest.mark.slow
def test_graphs_of_a_video_model_are_what_their_golden_says(graph_golden: GraphGolden):
    compare_with_golden("wan-14b", graph_golden)
