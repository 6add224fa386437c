"""Cleanup: recipe cleanup beside others that simplify graphs: onnxsim, onnxslim, onnxoptimizer.

Four parts, each also alone (``--parts``):

- *size*: nodes (Constant nodes aside) and bytes of the files, the outputs' difference from the
  original's, and which ops only ours or only others removed;
- *latency*: two threads, beside the original, all files of a model in the same rounds;
- *movement*: what moving 8-bit integers in place of floats takes, on the tensors of a cache;
- *scale*: seconds that graphs of 1,000 to 10,000 nodes take, by pass.

Models: files that others exported, fused or quantized, MiniLM-L6 in every dialect, and a decoder
with cache (6 layers of 512, random weights). A dialect is read from ``--exports`` where it lies
there, or else exported, which takes `.[export]` or, in an environment of its own,
`.[export-optimum]`. Wants `.[benchmarks]`; of the others those that are installed are measured, and
of the rest the reason is told.
"""

from __future__ import annotations

from pathlib import Path

from common import arguments, run_parts

PARTS = ("size", "latency", "movement", "scale")


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--models", nargs="+", metavar="START", help="whose names begin so")
    parser.add_argument("--exports", type=Path, metavar="FOLDER", help="keep exported files there")
    parser.add_argument("--rounds", type=int, default=15, help="of all timings")
    run_parts("cleanup", parser.parse_args())


if __name__ == "__main__":
    main()
