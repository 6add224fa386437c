"""simulate: a compiled model on models of chips, at one batch and one sequence length."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sardonyx.compiler.chip_layers import layers_of
from sardonyx.compiler.chip_limits import check_positions
from sardonyx.compiler.chip_sizes import OpenSizes
from sardonyx.compiler.chip_values import ChipValues
from sardonyx.compiler.load import load
from sardonyx.passes.cleanup.lift_constants import LiftConstants
from sardonyx.passes.journal import Journal
from sardonyx.runtime_ops.accelerator.chip import Chip, GoboArray
from sardonyx.runtime_ops.accelerator.energy import Energy
from sardonyx.runtime_ops.accelerator.machine import array_takes, machine_of
from sardonyx.runtime_ops.accelerator.timeline import Timeline, simulate
from sardonyx.runtime_ops.accelerator.timing import weight_bits
from sardonyx.runtime_ops.accelerator.work import Layer, Product
from sardonyx.runtime_ops.errors import InputError


@dataclass(frozen=True)
class Simulation:
    """A model on a chip.

    model: its file. batch, sequence: sizes of its inputs; None for one that the model does not
    have. timeline: what each layer costs, and when; its totals are those of the model.
    """

    model: Path
    batch: int | None
    sequence: int | None
    timeline: Timeline

    @property
    def chip(self) -> Chip:
        return self.timeline.chip

    @property
    def cycles(self) -> int:
        return self.timeline.cycles

    @property
    def seconds(self) -> float:
        return self.timeline.seconds

    @property
    def energy(self) -> Energy:
        return self.timeline.energy

    @property
    def host_ops(self) -> Counter[str]:
        """Ops that run on the host, for want of a unit on the chip, and how many nodes each."""
        return Counter(time.layer.op for time in self.timeline.layers if time.unit == "host")

    @property
    def attention_on_vector(self) -> int:
        """Products of two activations that the array cannot do."""
        return sum(not work.constant for work in self._on_vector)

    @property
    def weights_on_vector(self) -> int:
        """Products by weights that the array cannot do."""
        return sum(work.constant for work in self._on_vector)

    @property
    def _on_vector(self) -> list[Product]:
        products = (time for time in self.timeline.layers if time.unit == "vector")
        return [time.layer.work for time in products if isinstance(time.layer.work, Product)]


class Workload:
    """A model to be simulated, at any sizes and on any chips. ``graph``: what it holds.
    ``sources``: the files it is read from."""

    def __init__(self, model: Path) -> None:
        if model.is_dir():
            raise InputError(f"model '{model}' is a folder: give an .onnx file")
        self.model = model
        source, self.graph = load(model)
        self.sources = source.files
        LiftConstants().run(self.graph, Journal())
        self._sizes = OpenSizes(self.graph)
        self._layers: dict[tuple[int | None, int | None], list[Layer]] = {}

    def on(self, chip: Chip, batch: int | None = None, sequence: int | None = None) -> Simulation:
        """The model on a chip. Raises InputError where the two, or the sizes, do not fit."""
        sizes = self._sizes.settle(batch, sequence)
        if sizes not in self._layers:
            self._layers[sizes] = self._at(*sizes)
        layers = self._layers[sizes]
        _check_compiled(self.model, chip, layers)
        return Simulation(self.model, *sizes, simulate(chip, _as_read(chip, layers)))

    def _at(self, batch: int | None, sequence: int | None) -> list[Layer]:
        values = ChipValues(self.graph, self._sizes.at(batch, sequence))
        try:
            check_positions(values, sequence)
            return layers_of(values)
        except InputError as error:
            raise InputError(f"'{self.model}': {error}") from error


def _as_read(chip: Chip, layers: Sequence[Layer]) -> list[Layer]:
    """Layers without the places of outliers where a chip reads weights as plain floats: there an
    outlier is a weight as all others, and layers of one shape take the same."""
    machine, read = machine_of(chip), []
    for layer in layers:
        work = layer.work
        if isinstance(work, Product) and weight_bits(machine, work) is not None:
            work = replace(work, outliers=())
        read.append(replace(layer, work=work))
    return read


def _check_compiled(model: Path, chip: Chip, layers: Sequence[Layer]) -> None:
    """Refuse a model of which a chip's array can take no weight."""
    weights = [
        (layer.node, layer.work)
        for layer in layers
        if isinstance(layer.work, Product) and layer.work.constant
    ]
    if any(array_takes(chip, work) for _, work in weights):
        return
    if isinstance(chip.array, GoboArray):
        _check_indices(model, chip, chip.array.index_bits.value, weights)
        recipes = "gobo, gobo4 or gobo-roberta"
    elif "float32" in chip.array.arithmetic:
        recipes = "gobo or float"
    else:
        recipes = "int8-kl or peg"
    raise InputError(
        f"'{model}' holds no weight that the array of chip '{chip.name}' multiplies: compile "
        f"its source with --recipe {recipes}"
    )


def _check_indices(
    model: Path, chip: Chip, width: int, weights: Sequence[tuple[str, Product]]
) -> None:
    """Refuse a model all of whose indices are wider than a chip's."""
    for node, work in weights:
        if work.format == "codebook":
            raise InputError(
                f"'{model}': the weight of '{node}' has indices of {work.bits} bits, and chip "
                f"'{chip.name}' takes {width}: compile its source with fewer bits, as --recipe "
                f"gobo does, or give the chip a larger array.index_bits"
            )
