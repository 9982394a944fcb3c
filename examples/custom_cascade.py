"""A cascade of one's own on FuseMax: attention with ReLU scores, which needs neither a maximum nor exponentials.

python examples/custom_cascade.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from cascadesim.accelerators.catalogue import load
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.simulator.simulate import simulate

RELU = """
    BK[h,m1,m0,e]   = K[h,m1*M0+m0,e]
    BV[h,m1,m0,f]   = V[h,m1*M0+m0,f]
    RD[h,0,p]       = 0                              # running state before the first tile
    RNV[h,0,p,f]    = 0
    QK[h,m1,m0,p]   = Q[h,p,e] * BK[h,m1,m0,e]
    SLN[h,m1,m0,p]  = max(QK[h,m1,m0,p], 0)          # instead of exp(QK - maximum)
    SLD[h,m1,p]     = SLN[h,m1,m0,p]
    SLNV[h,m1,p,f]  = SLN[h,m1,m0,p] * BV[h,m1,m0,f]
    RD[h,m1+1,p]    = RD[h,m1,p] + SLD[h,m1,p]
    RNV[h,m1+1,p,f] = RNV[h,m1,p,f] + SLNV[h,m1,p,f]
    AV[h,p,f]       = RNV[h,M1,p,f] / RD[h,M1,p]
"""


def main() -> None:
    design = load("fusemax", ("binding.policy=interleave", "binding.in_flight=8"))  # epochs are for the published text
    with TemporaryDirectory() as folder:
        path = Path(folder) / "attention-relu.cascade"
        path.write_text(RELU, encoding="utf-8")
        for attention in ("attention-1pass", str(path)):
            (report,) = simulate(load_workload("bert"), design, scope="attention", attention=attention)
            print(f"{Path(attention).stem:18} {report.cycles:10,} cycles, bound by {report.bound_by}")


if __name__ == "__main__":
    main()
