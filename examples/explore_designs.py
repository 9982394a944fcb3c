"""An exploration: which array and buffer run XLM's attention at 16K tokens fastest, for how much area?

python examples/explore_designs.py
"""

from cascadesim.simulator.explore.explore import explore

SPACE = {
    "question": "Which array and buffer run XLM's attention at 16K tokens fastest?",
    "architecture": "fusemax",
    "vary": {
        "pe_array.rows": {"powers_of_two": [64, 512]},
        "pe_array.columns": {"powers_of_two": [64, 512]},
        "global_buffer.capacity_bytes": {"powers_of_two": [2**20, 2**25]},
    },
    "derive": {"vector_array.lanes": "pe_array.columns", "global_buffer.row_bytes": "2 * pe_array.columns"},
    "workloads": [{"workload": "xlm", "scope": "attention", "sequence_length": "16K"}],
    "objectives": ["latency_s", "area_mm2"],
    "constraints": ["area_mm2 <= 1500"],
}


def main() -> None:
    frame = explore(SPACE)
    print(frame)
    best = next(frame.rows())
    print(f"fastest: {best['pe_array.rows']} x {best['pe_array.columns']}, {best['latency_s']:.2f} s; "
          f"cycle level {best['cycle_difference']:+.2%}")


if __name__ == "__main__":
    main()
