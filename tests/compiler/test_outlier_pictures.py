"""Pictures of ranges: what is marked, and that all there is to read lies inside."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex

from sardonyx.compiler.outlier_pictures import _OUTLYING, Pictures
from sardonyx.compiler.outliers import TensorOutliers
from sardonyx.passes.quantize.observers.channel_range import ChannelRange
from sardonyx.passes.quantize.observers.outlying_channels import OutlyingChannels

WIDTH = 400


@pytest.fixture
def figure(tmp_path):
    """Layers all of whose channels hold outliers, as those of g; only the first, one in the middle
    and the last are far."""
    low, high = np.full(WIDTH, -1, np.float32), np.full(WIDTH, 2, np.float32)
    high[[0, WIDTH - 1]], low[WIDTH // 2] = 99, -80
    seen = OutlyingChannels(6.0, np.ones(WIDTH, np.int64), 50.0), ChannelRange(low, high)
    layers = [TensorOutliers(layer, "g", f"g{layer}", *seen) for layer in range(4)]
    made = Pictures(tmp_path)._figure("g", layers)
    FigureCanvasAgg(made).draw()
    return made


def test_numbers_lie_inside(figure):
    for axes in figure.axes[:4]:
        inside = axes.get_window_extent()
        assert {text.get_text() for text in axes.texts} == {"0", "200", "399"}
        for text in axes.texts:
            box = text.get_window_extent()
            assert inside.x0 <= box.x0 < box.x1 <= inside.x1
            assert inside.y0 <= box.y0 < box.y1 <= inside.y1


def test_both_axes_say_what_they_are(figure):
    assert (figure.get_supxlabel(), figure.get_supylabel()) == ("channel", "value")


def test_only_wide_channels_are_marked(figure):
    lines = [each for each in figure.axes[0].collections if isinstance(each, LineCollection)]
    counts = {to_hex(each.get_color()[0]): len(each.get_segments()) for each in lines}
    assert counts[_OUTLYING] == 3
    assert sum(counts.values()) == WIDTH
