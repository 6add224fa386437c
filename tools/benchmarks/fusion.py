"""Fusion: `--target cpu` beside what onnxruntime and its transformer optimizer make of a graph.

Three parts, each also alone (``--parts``):

- *coverage*: tiny models of every architecture in every dialect of the installed export route;
  how many of their attentions are one op in the graph that onnxruntime runs;
- *latency*: real models, two threads, all variants of a model interleaved;
- *outputs*: real models on real padded sentences, against the file they were made from.

*plain* is the exported file in onnxruntime with default options, *optimizer* the file that
onnxruntime.transformers.optimizer makes of it, *float* that of `--recipe float --target cpu`.

The first part wants the torch route (`.[export]`) or the optimum route (`.[export-optimum]`), each
in an environment of its own; the others want `.[benchmarks]`.
"""

from __future__ import annotations

from common import arguments, run_parts
from fusion_variants import SHAPES

from sardonyx.models.export.dialects import DIALECTS
from sardonyx.models.tiny import ARCHITECTURES

PARTS = ("coverage", "latency", "outputs")


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__, tuple(dict.fromkeys((*ARCHITECTURES, *SHAPES))))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=["latency", "outputs"])
    parser.add_argument("--dialects", nargs="+", choices=DIALECTS, help="of the coverage")
    parser.add_argument("--rounds", type=int, default=60, help="of the latency")
    parser.add_argument("--sentences", type=int, default=512, help="of the outputs")
    options = parser.parse_args()
    run_parts("fusion", options)


if __name__ == "__main__":
    main()
