"""The scales of SmoothQuant, equation 4."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sardonyx.passes.quantize.channel_scale import Measured
from sardonyx.passes.quantize.observers.channel_range import ChannelRange

K = 6


def measured(x, w):
    return Measured.of(ChannelRange().add(x), x, [w], 7)


@pytest.mark.parametrize("alpha", [0.0, 0.4, 1.0])
def test_the_formula(normal, outliers, alpha):
    x, w = outliers(9, 16).reshape(-1, 16), normal(16, 5)
    s = np.abs(x).max(axis=0) ** alpha / np.abs(w).max(axis=1) ** (1 - alpha)
    s /= np.exp(np.mean(np.log(s)))
    np.testing.assert_allclose(measured(x, w).scale(alpha), s, rtol=1e-5)  # s in float32


def test_channels_of_zeros_keep_their_values(normal):
    x, w = normal(9, K), normal(K, 5)
    x[:, 2] = 0
    w[4] = 0
    scale = measured(x, w).scale(0.5)
    assert scale[[2, 4]].tolist() == [1, 1]
    assert (scale[[0, 1, 3, 5]] != 1).all()


@given(
    arrays.arrays(np.float32, (4, K), elements=st.floats(-1e6, 1e6, width=32)),
    arrays.arrays(np.float32, (K, 3), elements=st.floats(-1e6, 1e6, width=32)),
    st.floats(0, 1),
)
def test_scales_of_any_values(x, w, alpha):
    scale = measured(x, w).scale(alpha)
    assert np.isfinite(scale).all()
    assert (scale > 0).all()
    assert np.mean(np.log(scale.astype(np.float64))) == pytest.approx(0, abs=1e-5)  # of float32


def test_ties_go_to_the_smaller_alpha(normal):
    """All channels alike: no alpha changes anything."""
    w = np.tile(normal(1, 5), (K, 1))
    x = np.tile(np.linspace(-1, 1, 9, dtype=np.float32)[:, None], (1, K))
    assert measured(x, w).best_alpha((0.8, 0.4, 0.6)) == 0.4


def test_the_best_alpha_is_that_of_the_largest_sqnr(normal, outliers):
    found = measured(outliers(40, 16).reshape(-1, 16), normal(16, 5))
    alphas = (0.0, 0.25, 0.5, 0.75, 1.0)
    gains = [found.sqnr_db(found.scale(alpha)) for alpha in alphas]
    assert found.best_alpha(alphas) == alphas[int(np.argmax(gains))]
    assert max(gains) > found.sqnr_db() + 3


def test_a_scale_beyond_the_type(normal):
    x, w = normal(9, K), 1000 * normal(K, 5)
    x[:, 0] *= 1e6
    found = measured(x, w)
    assert "beyond float16" in found.misfit(found.scale(1.0), np.float16)
    assert found.misfit(found.scale(1.0), np.float32) == ""
