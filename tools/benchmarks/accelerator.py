"""The accelerator: what GOBO's chip computes, how long it takes, and where its promises hold.

Six parts, each also alone (``--parts``):

- *exactness*: GOBO's products in real MiniLM-L6 against the chip's definition, bit for bit: a
  scalar loop, on a sample of outputs of every product;
- *systolic*: cycles of systolic arrays against SCALE-Sim 3.0 on BERT-base's products. It runs with
  the Python that ``--scalesim`` names (default: this one); where that has no `scalesim`, its cycles
  as the project's tests keep them stand in, and the output says so;
- *design*: BERT-base and BERT-large at 128 and 384 tokens, batch 1: speed and energy of GOBO's chip
  beside tensorcore-like at equal area, over chip area and DRAM bandwidth;
- *compression*: the same of the chips tpu-like, eyeriss-like and tensorcore-like, with GOBO's
  compression in DRAM alone against without;
- *formats*: MiniLM-L6 by recipes of floats, codebooks and integers: time, energy, cosine to FP32;
- *time*: how long simulating BERT-base takes, its values and its cycles.

*Design* and *compression* tell figures of the fully connected layers alone and of the whole model,
mark where the paper's ratios (recalled, not read) hold, and say what the time goes to where they
do not. ``--plots`` draws them. ``--compiled`` keeps the compiled models and uses them again.
"""

from __future__ import annotations

import sys
from pathlib import Path

from common import arguments, run_parts

PARTS = ("exactness", "systolic", "design", "compression", "formats", "time")


def main() -> None:
    """Run the benchmark."""
    parser = arguments(__doc__, ("bert-base", "bert-large"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--tokens", nargs="+", type=int, default=[128, 384], metavar="N")
    parser.add_argument("--plots", type=Path, metavar="DIR", help="draw into this folder")
    parser.add_argument("--compiled", type=Path, metavar="DIR", help="keep compiled models there")
    parser.add_argument("--scalesim", default=sys.executable, metavar="PYTHON")
    text = "outputs of each product that the scalar loop computes"
    parser.add_argument("--samples", type=int, default=64, help=text)
    parser.add_argument("--sentences", type=int, default=256, help="of the cosines of *formats*")
    run_parts("accelerator", parser.parse_args())


if __name__ == "__main__":
    main()
