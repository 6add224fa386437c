"""Native: the GOBO ops of the native library beside onnxruntime's own kernels.

Four parts, each also alone (``--parts``):

- *kernels*: single products A W of four shapes and M = 1, 8 and 128 rows, weights colder than the
  cache, one thread and two; ratio = their time / ours in the same round;
- *limits*: the same products of ours as a share of what memory and arithmetic units can do;
- *session*: seconds and memory that the session of a compiled BERT-base takes;
- *models*: real models end to end on two threads: latency, memory, file and cosine of embeddings.

*fp32* and *int8* are how a product of ours computes (``compute``), *3 bits* and *4 bits* what its
weights are. Wants `.[benchmarks]`. All parts take about 15 minutes on two cores.
"""

from __future__ import annotations

from common import arguments, run_parts

PARTS = ("kernels", "limits", "session", "models")


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__, ("minilm-l6", "mpnet"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=5, help="of all timings")
    parser.add_argument("--sentences", type=int, default=256, help="of the cosines")
    options = parser.parse_args()
    run_parts("native", options)


if __name__ == "__main__":
    main()
