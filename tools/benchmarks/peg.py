"""PEG: recipes peg and mixed-precision on real models, beside one scale a tensor.

Six parts, each also alone (``--parts``). All files of a comparison round the same activations: one
scale a tensor is the same recipe with peg.k=1.

- *accuracy*: cosine of embeddings to FP32 and accuracy of the kept head, as in accuracy.py;
- *groups*: cosine over the number of groups, their sizes, the order of channels and the tensors
  that are grouped; ``--plot`` draws it;
- *recovery*: SQNR of the values of x, g, h and y with a scale for a tensor, for each group and for
  each channel, layer by layer;
- *integers*: what runs in integer kernels of onnxruntime, and what groups cost: parameters, bytes,
  memory, Gathers;
- *latency*: 1x16, 1x128 and 8x32 tokens on two threads;
- *sums*: onnxruntime against the reference executor: INT32 sums of products, and outputs.

Ranges are measured on 256 training sentences of the movie reviews; groups and recovery take 64, and
256 held-out snippets. Wants `.[benchmarks]`, and for a picture `.[plots]`.
"""

from __future__ import annotations

from pathlib import Path

from common import REAL, arguments, run_parts
from peg_picture import figures

GROUPS = [2, 3, 4, 6, 12]
"""Besides 1 and as many as there are channels."""

PARTS = ("accuracy", "groups", "recovery", "integers", "latency", "sums")


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__, REAL)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=9, help="of all timings")
    text = "calibrate on, train and test with N sentences at most"
    parser.add_argument("--sentences", type=int, metavar="N", help=text)
    text = "accuracy of those alone whose names begin so"
    parser.add_argument("--variants", nargs="+", metavar="START", help=text)
    text = "numbers of groups in the table"
    parser.add_argument("--groups", nargs="+", type=int, metavar="K", default=GROUPS, help=text)
    parser.add_argument("--plot", type=Path, metavar="OUT.png", help="draw the table of groups")
    text = "keep the files of integers, latency and sums there, and use those that are there"
    parser.add_argument("--files", type=Path, metavar="FOLDER", help=text)
    options = parser.parse_args()
    if options.plot:
        try:
            figures()
        except ImportError as error:
            parser.error(f"--plot: {error}")
    run_parts("peg", options)


if __name__ == "__main__":
    main()
