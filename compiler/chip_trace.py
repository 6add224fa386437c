"""A simulation as a trace that Chrome (chrome://tracing) and Perfetto (ui.perfetto.dev) show.

The format is the JSON of Chrome's Trace Event Format: a process a chip, a thread a lane, a complete
event ("X") a busy span. Its times are microseconds.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sardonyx.compiler.simulate import Simulation
from sardonyx.runtime_ops.accelerator.timeline import Event, Lane

_LANES: dict[Lane, str] = {
    "array": "tile array",
    "SPU": "SPU",
    "DRAM": "DRAM",
    "vector": "vector unit",
    "host": "host",
}
"""Names of lanes, in the order in which they are shown."""


def write_trace(path: Path, simulations: Sequence[Simulation]) -> None:
    """Write the trace of some simulations as one file."""
    with path.open("w", encoding="utf-8") as file:
        file.write('{"displayTimeUnit": "ns", "traceEvents": [\n')
        for number, event in enumerate(_events(simulations)):
            file.write(",\n" if number else "")
            file.write(json.dumps(event))
        file.write("\n]}\n")


def _events(simulations: Sequence[Simulation]) -> Iterator[dict[str, Any]]:
    for process, simulation in enumerate(simulations, 1):
        name = f"{simulation.model.name} on {simulation.chip.name}"
        yield _named("process_name", process, 0, name)
        for thread, lane in enumerate(_LANES.values(), 1):
            yield _named("thread_name", process, thread, lane)
            yield _meta("thread_sort_index", process, thread, {"sort_index": thread})
        microsecond = simulation.chip.clock.value * 1000
        ops = {time.layer.node: time.layer.op for time in simulation.timeline.layers}
        for event in simulation.timeline.events():
            yield _span(event, process, microsecond, ops[event.node])
