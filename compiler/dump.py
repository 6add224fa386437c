"""``--dump DIR``: the graph after each stage, as a model to open in Netron."""

from dataclasses import dataclass
from pathlib import Path

from sardonyx.compiler.driver import Driver
from sardonyx.compiler.emit import emit
from sardonyx.compiler.write import write_model
from sardonyx.runtime_ops.errors import InputError


@dataclass
class Dump:
    """An observer of the pipeline that writes ``NN-STAGE.onnx`` to a folder."""

    folder: Path
    written: int = 0

    def __post_init__(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make folder '{self.folder}': {error.strerror}") from error

    def __call__(self, stage: str, driver: Driver) -> None:
        path = self.folder / f"{self.written:02}-{stage}.onnx"
        self.written += 1
        write_model(emit(driver.source, driver.graph), path)
