"""simulate charts: a timeline as drawings. Places are percentages, so that lines and letters keep
their size on wide and narrow screens; colours are classes of the page's style sheet."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from math import log10

import numpy as np
from numpy.typing import NDArray

from sardonyx.compiler.markup import amount, decade, element, percent, rounded, text, ticks
from sardonyx.runtime_ops.accelerator.timeline import Lane, LayerTime, Timeline, macs_a_cycle
from sardonyx.runtime_ops.accelerator.work import Product

LANES: dict[Lane, str] = {
    "array": "Array",
    "SPU": "SPU",
    "vector": "Vector unit",
    "DRAM": "DRAM",
    "host": "Host",
}
"""Lanes from top to bottom, and their names on the page."""

_BINS = 6000
_LEVELS = 20
_ZOOMS = (1, 4, 16)
_LABELS = 5
_SMALLEST, _LARGEST = 4, 10


def lanes_chart(timeline: Timeline) -> str:
    """What each unit does when: a row for the layers, and for each lane the share of time in
    which it works. Radio buttons widen it."""
    busy = _busy(timeline)
    names = [element("div", text(LANES[lane])) for lane in busy]
    legend = element("div", element("div", "Layers"), *names, class_="lanes")
    rows = [element("div", _layer_strip(timeline), class_="lane")]
    rows += [_lane(shares, lane) for lane, shares in busy.items()]
    axes = [_time_axis(timeline, zoom) for zoom in _ZOOMS]
    inner = element("div", *rows, *axes, class_="stretch")
    plot = element("div", inner, class_="scroll", tabindex=0)
    choices = []
    for zoom in _ZOOMS:
        state = {"checked": "checked"} if zoom == 1 else {}
        name = f"zoom{zoom}"
        choices.append(element("input", type="radio", name="zoom", id=name, **state))
        choices.append(element("label", f"{zoom} x", for_=name))
    return element("div", *choices, element("div", legend, plot, class_="timeline"), class_="zooms")


def _busy(timeline: Timeline) -> dict[Lane, NDArray[np.float64]]:
    """Of the lanes that work at all, the share of each of so many equal spans of time."""
    spans: dict[Lane, list[int]] = defaultdict(list)
    for event in timeline.events():
        spans[event.lane] += event.start, event.start + event.cycles
    edges = np.linspace(0, timeline.cycles, _BINS + 1)
    busy: dict[Lane, NDArray[np.float64]] = {}
    for lane in LANES:
        if lane in spans:
            turns = np.array(spans[lane])
            worked = np.where(np.arange(len(turns)) % 2, np.diff(turns, prepend=0), 0).cumsum()
            busy[lane] = np.diff(np.interp(edges, turns, worked)) / np.diff(edges)
    return busy


def _lane(shares: NDArray[np.float64], lane: Lane) -> str:
    heights = (np.clip(shares, 0, 1) * _LEVELS + 0.5).astype(int)
    changes = np.flatnonzero(np.diff(heights, prepend=-1))
    steps = [f"H{at}V{_LEVELS - heights[at]}" for at in changes]
    path = f"M0 {_LEVELS}{''.join(steps)}H{_BINS}V{_LEVELS}Z"
    drawn = element(
        "svg",
        element("title", f"{LANES[lane]}: works {shares.mean():.1%} of the time"),
        element("path", d=path, class_=f"lane-{lane.lower()}"),
        viewBox=f"0 0 {_BINS} {_LEVELS}",
        preserveAspectRatio="none",
    )
    return element("div", drawn, class_="lane")


def _layer_strip(timeline: Timeline) -> str:
    whole = max(1, timeline.cycles)
    boxes = [
        element(
            "rect",
            element("title", text(said(timeline, time))),
            x=percent(time.start / whole),
            width=percent(time.cycles / whole),
            height="100%",
            class_=f"{time.bound} edge",
        )
        for time in timeline.layers
    ]
    return element("svg", *boxes)


def _time_axis(timeline: Timeline, zoom: int) -> str:
    marks = ticks(timeline.seconds, _LABELS * zoom) if timeline.cycles else []
    labels = [
        element("text", text(rounded(mark, "s")), x=percent(mark / timeline.seconds), y=14)
        for mark in marks
        if mark <= 0.88 * timeline.seconds or zoom > 1
    ]
    return element("svg", *labels, class_=f"axis zoom{zoom}", height=20)


def said(timeline: Timeline, time: LayerTime) -> str:
    """A layer in a sentence."""
    seconds = time.cycles / (timeline.chip.clock.value * 1e9)
    return (
        f"{time.layer.node} ({time.layer.op} on {LANES[time.unit].lower()}): {time.cycles:,} "
        f"cycles, {rounded(seconds, 's')}, {time.bound}-bound"
    )


def layers_chart(timeline: Timeline) -> str:
    """A column for each layer, as high as its cycles."""
    most = max((time.cycles for time in timeline.layers), default=0) or 1
    count = len(timeline.layers)
    parts = []
    for mark in ticks(most, 4):
        y = percent(1 - mark / most)
        parts.append(element("line", x1=0, x2="100%", y1=y, y2=y, class_="grid"))
        parts.append(element("text", text(rounded(mark, "")), x=-6, y=y, dy=4, class_="tick"))
    for number, time in enumerate(timeline.layers):
        height = time.cycles / most
        title = element("title", text(said(timeline, time)))
        place = {"x": percent(number / count), "width": percent(0.86 / count)}
        place |= {"y": percent(1 - height), "height": percent(height)}
        parts.append(element("rect", title, class_=time.bound, **place))
    return element("svg", *parts, class_="plot")


def ops_chart(timeline: Timeline) -> str:
    """A bar for each kind of op, the slowest first, split by what bounds its layers."""
    cycles: dict[str, Counter[str]] = defaultdict(Counter)
    for time in timeline.layers:
        cycles[f"{time.layer.op} ({LANES[time.unit].lower()})"][time.bound] += time.cycles
    ranked = sorted(cycles.items(), key=lambda pair: -pair[1].total())
    most = max((parts.total() for parts in cycles.values()), default=0) or 1
    return bars(
        [
            (text(op), dict(sorted(parts.items())), amount(parts.total(), ""))
            for op, parts in ranked
        ],
        most,
    )


def bars(rows: list[tuple[str, dict[str, float], str]], most: float) -> str:
    """Horizontal bars: of each its name, its parts by class, and what stands behind it."""
    lines = []
    for name, parts, value in rows:
        pieces = [
            element("i", style=f"width:{percent(part / most)}", class_=kind, title=kind)
            for kind, part in parts.items()
            if part
        ]
        bar = element("div", *pieces, class_="bar")
        number = element("div", value, class_="number")
        lines.append(element("div", element("div", name), bar, number))
    return element("div", *lines, class_="bars")


@dataclass(frozen=True)
class _Scale:
    """A logarithmic axis over whole decades."""

    low: int
    high: int

    def at(self, value: float) -> float:
        """Place of a value, from 0 to 1."""
        return (log10(value) - self.low) / (self.high - self.low)

    def decades(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def roofline_chart(timeline: Timeline) -> str:
    """Each product: MACs for a byte of DRAM traffic, and MACs a second, below what the chip can."""
    clock, bandwidth = timeline.chip.clock.value * 1e9, timeline.chip.dram.bandwidth.value * 1e9
    products = [time for time in timeline.layers if time.macs]
    rates = [time.macs / time.cycles * clock for time in products]
    peaks = {"array": macs_a_cycle(timeline.chip) * clock}
    if any(time.unit == "vector" for time in products):
        peaks["vector unit"] = timeline.chip.vector.lanes.value * clock
    moved = [time.macs / time.dram_bytes for time in products if time.dram_bytes]
    knees = [peak / bandwidth for peak in peaks.values()]
    x = _axis([*moved, *knees])
    y = _axis([*rates, *peaks.values()], 10.0**x.low * bandwidth)
    parts = _grid(x, y)
    for name, peak in peaks.items():
        parts += _roof(x, y, name, peak, bandwidth)
    points: dict[tuple[str, str, str], list[LayerTime]] = defaultdict(list)
    for time, rate in zip(products, rates, strict=True):
        at = x.at(time.macs / time.dram_bytes) if time.dram_bytes else 1.0
        kind = f"{time.bound} {'weights' if _constant(time) else 'activations'}"
        points[percent(at), percent(1 - y.at(rate)), kind].append(time)
    for (across, down, kind), times in points.items():
        radius = min(_LARGEST, _SMALLEST + len(times) ** 0.5)
        lines = [said(timeline, time) for time in times[:5]]
        lines += [f"and {len(times) - 5} more"] if len(times) > 5 else []
        title = element("title", text("\n".join(lines)))
        place = {"cx": across, "cy": down, "r": f"{radius:.1f}"}
        parts.append(element("circle", title, class_=kind, **place))
    return element("svg", *parts, class_="plot roofline")


def _constant(time: LayerTime) -> bool:
    return isinstance(time.layer.work, Product) and time.layer.work.constant


def _axis(values: list[float], least: float | None = None) -> _Scale:
    """Decades that hold all values; one below them too, if ``least`` lies there."""
    low = decade(min(values))
    if least is not None and least < 10.0**low:
        low -= 1
    return _Scale(low, 1 + decade(1.5 * max(values)))


def _grid(x: _Scale, y: _Scale) -> list[str]:
    parts = []
    for value in x.decades()[1:-1]:
        at = percent(x.at(value))
        parts.append(element("line", x1=at, x2=at, y1=0, y2="100%", class_="grid"))
        label = text(f"{value:g}")
        parts.append(element("text", label, x=at, y="100%", dy=15, class_="below"))
    for value in y.decades()[1:-1]:
        at = percent(1 - y.at(value))
        parts.append(element("line", x1=0, x2="100%", y1=at, y2=at, class_="grid"))
        parts.append(element("text", text(rounded(value, "")), x=-6, y=at, dy=4, class_="tick"))
    return parts


def _roof(x: _Scale, y: _Scale, name: str, peak: float, bandwidth: float) -> list[str]:
    """The slope of DRAM up to the peak, and the peak."""
    knee, top = x.at(peak / bandwidth), 1 - y.at(peak)
    foot = max(10.0**x.low, 10.0**y.low / bandwidth)
    slope = {"x1": percent(x.at(foot)), "y1": percent(1 - y.at(foot * bandwidth))}
    slope |= {"x2": percent(knee), "y2": percent(top)}
    flat = {"x1": percent(knee), "y1": percent(top), "x2": "100%", "y2": percent(top)}
    label = text(f"{name}: {rounded(peak, 'MAC/s')}")
    return [
        element("line", class_="roof", **slope),
        element("line", class_="roof", **flat),
        element("text", label, x="100%", y=percent(top), dx=-4, dy=-12, class_="peak"),
    ]
