"""INT8: recipes int8-kl and int8-dynamic beside what others make of the same models.

Seven parts, each also alone (``--parts``):

- *accuracy*: cosine of embeddings to FP32 and accuracy of the kept head, as in accuracy.py;
- *latency*: 1x16, 1x128 and 8x32 tokens on two threads, beside onnxruntime's INT8;
- *size*: bytes of the files;
- *calibration*: seconds that finding the ranges takes, beside onnxruntime's entropy calibrator;
- *thresholds*: whether ranges and files depend on how samples are batched and ordered;
- *memory*: peak of the compiling process with few and with many samples;
- *coverage*: share of multiplications that run in integer kernels.

Ranges are measured on 256 training sentences of the movie reviews. Wants `.[benchmarks]`; of other
packages that quantize (NNCF, onnxsim, AMD Quark, NVIDIA ModelOpt) those that are installed are
measured, and of the rest the reason is told.
"""

from __future__ import annotations

from common import arguments, run_parts

PARTS = ("accuracy", "latency", "size", "calibration", "thresholds", "memory", "coverage")


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__, ("minilm-l6", "mpnet"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=5, help="of all timings")
    text = "calibrate on, train and test with N sentences at most"
    parser.add_argument("--sentences", type=int, metavar="N", help=text)
    parser.add_argument("--recipe", default="int8-kl", help="stands where int8-kl does")
    text = "accuracy of those alone whose names begin so"
    parser.add_argument("--variants", nargs="+", metavar="START", help=text)
    options = parser.parse_args()
    run_parts("int8", options)


if __name__ == "__main__":
    main()
