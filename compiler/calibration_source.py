"""What calibration data a user gave, in which form."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from numpy.typing import NDArray

from sardonyx.compiler.calibration_data import Archives, Batches, Data, Inputs, Row
from sardonyx.compiler.calibration_text import Sentences
from sardonyx.compiler.cut import Unknown, feeds_for
from sardonyx.compiler.region import Record, record_scopes
from sardonyx.runtime_ops.errors import InputError

Given = str | Path | Iterable[Mapping[str, NDArray[np.generic]]]
"""A path, or batches of arrays by name of input."""

DATA_FORMS = (
    "--calibration inputs.npz (an array for each input), --calibration FOLDER (of such files), or "
    "--calibration sentences.txt --tokenizer tokenizer.json (a sentence a line; .jsonl: a "
    '{"text": ...} a line)'
)
FORMS = f"{DATA_FORMS}; --random-calibration 32 makes inputs up"
"""What to add to a command that lacks data: to one that takes made-up data too."""

_TEXT = (".txt", ".jsonl")


def open_data(given: Given, tokenizer: str | Path | None) -> Data:
    """The data that lies in a file or folder, or that the caller holds; raises InputError."""
    if not isinstance(given, str | Path):
        return Batches(list(given) if isinstance(given, Iterator) else given)
    path = Path(given)
    if not path.exists():
        raise InputError(f"cannot read '{path}': No such file or directory")
    if path.suffix in _TEXT and not path.is_dir():
        if tokenizer is None:
            raise InputError(
                f"sentences, as in '{path}', need the model's tokenizer: --tokenizer tokenizer.json"
            )
        return Sentences(str(path), Path(tokenizer))
    if tokenizer is not None:
        raise InputError(f"--tokenizer is for sentences in a .txt or .jsonl, not for '{path}'")
    paths = tuple(sorted(path.glob("*.npz"))) if path.is_dir() else (path,)
    if not paths:
        raise InputError(f"folder '{path}' holds no .npz file")
    return Archives(str(path), paths)


@dataclass(frozen=True)
class Random(Data):
    """Made-up samples: row numbers of the tables that inputs are looked up in, masks of ones, and
    else standard normal numbers; sizes that may vary are 4 to 32, the batch 1."""

    written: tuple[onnx.ValueInfoProto, ...]
    records: tuple[Record, ...]
    count: int
    source: str = "random"
    hint: ClassVar[str] = "this input cannot be made up"
    random: ClassVar[bool] = True

    def rows(self, inputs: Inputs) -> Iterator[Row]:
        names = {one.name for one in inputs}
        wanted = [value for value in self.written if value.name in names]
        for seed in range(self.count):
            length = int(np.random.default_rng(seed).integers(4, 33))
            try:
                feeds = feeds_for(wanted, self.records, (1, *[length] * 30), seed=seed)
            except Unknown as error:
                raise InputError(f"input '{error}' cannot be made up: give data") from error
            for one in inputs:
                array = feeds[one.name]
                if one.rows is None and array.ndim == 2 and array.dtype.kind in "iub":
                    feeds[one.name] = np.ones_like(array)
            yield Row(f"random sample {seed}", feeds)


def random_data(written: Iterable[onnx.ValueInfoProto], graph: gs.Graph, count: int) -> Random:
    """Samples for a model of these inputs, as ``graph`` uses them."""
    records = (record for scope in record_scopes(graph) for record in scope.records)
    return Random(tuple(written), tuple(records), count)
