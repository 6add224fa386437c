"""A simulation as a trace that Chrome (chrome://tracing) and Perfetto (ui.perfetto.dev) show.

The format is the JSON of Chrome's Trace Event Format: a process a chip, a thread a lane, a complete
event ("X") a busy span. Its times are microseconds.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sardonyx.compiler.simulate import Simulation
from sardonyx.runtime_ops.accelerator.timeline import Lane

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
    threads = {lane: number for number, lane in enumerate(_LANES, 1)}
    for process, simulation in enumerate(simulations, 1):
        name = f"{simulation.model.name} on {simulation.chip.name}"
        yield {"ph": "M", "name": "process_name", "pid": process, "args": {"name": name}}
        for lane, thread in threads.items():
            own = {"ph": "M", "pid": process, "tid": thread}
            yield own | {"name": "thread_name", "args": {"name": _LANES[lane]}}
            yield own | {"name": "thread_sort_index", "args": {"sort_index": thread}}
        cycles_a_microsecond = simulation.chip.clock.value * 1000
        for event in simulation.timeline.events():
            yield {
                "ph": "X",
                "name": event.node,
                "pid": process,
                "tid": threads[event.lane],
                "ts": event.start / cycles_a_microsecond,
                "dur": event.cycles / cycles_a_microsecond,
                "args": {"start_cycle": event.start, "cycles": event.cycles},
            }
