"""SCALE-Sim's cycles of products on a weight-stationary array, as JSON: one number a product.

Run by `accelerator_systolic` with a Python that has `scalesim`, in a folder that goes away:
``scale_sim.py ROWS COLUMNS M,K,N ...``.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
from pathlib import Path

CONFIG = """[general]
run_name = run
[architecture_presets]
ArrayHeight: {rows}
ArrayWidth: {columns}
IfmapSramSzkB: 8192
FilterSramSzkB: 8192
OfmapSramSzkB: 8192
IfmapOffset: 0
FilterOffset: 10000000
OfmapOffset: 20000000
Bandwidth: 10
Dataflow: ws
MemoryBanks: 1
ReadRequestBuffer: 64
WriteRequestBuffer: 64
[layout]
IfmapCustomLayout: False
IfmapSRAMBankBandwidth: 10
IfmapSRAMBankNum: 10
IfmapSRAMBankPort: 2
FilterCustomLayout: False
FilterSRAMBankBandwidth: 10
FilterSRAMBankNum: 10
FilterSRAMBankPort: 2
[sparsity]
SparsitySupport: false
SparseRep: ellpack_block
OptimizedMapping: false
BlockSize: 8
RandomNumberGeneratorSeed: 40
[run_presets]
InterfaceBandwidth: CALC
UseRamulatorTrace: False
"""


def main() -> None:
    """Write the inputs, run, print "Total Cycles" of each product."""
    from scalesim.scale_sim import scalesim  # noqa: PLC0415  only where this script is run

    rows, columns, *products = sys.argv[1:]
    Path("run.cfg").write_text(CONFIG.format(rows=rows, columns=columns))
    lines = ["Layer,M,N,K,"]
    for number, product in enumerate(products):
        m, k, n = product.split(",")
        lines.append(f"p{number},{m},{n},{k},")
    Path("products.csv").write_text("\n".join(lines) + "\n")
    layout = ["Layer," + "x," * 18] + [f"p{number}," + "1," * 20 for number in range(len(products))]
    Path("layout.csv").write_text("\n".join(layout) + "\n")
    with contextlib.redirect_stdout(io.StringIO()):
        simulator = scalesim(
            save_disk_space=True,
            verbose=False,
            config="run.cfg",
            topology="products.csv",
            layout="layout.csv",
            input_type_gemm=True,
        )
        simulator.run_scale(top_path="out")
    with next(Path("out").rglob("COMPUTE_REPORT.csv")).open() as report:
        table = [[cell.strip() for cell in line] for line in csv.reader(report)]
    at = table[0].index("Total Cycles")
    print(json.dumps([int(float(line[at])) for line in table[1:]]))


if __name__ == "__main__":
    main()
