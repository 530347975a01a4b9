import math

import pytest

from clarity_cxr.metrics import udp


def test_udp_is_the_mean_of_both():
    assert udp(0.83, 0.31) == pytest.approx(0.57)
    assert math.isnan(udp(0.83, float("nan")))
