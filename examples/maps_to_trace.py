"""Your own attention maps become a pruning trace, which `simulate --workload rows.csv` runs.

    python examples/maps_to_trace.py maps.npz rows.csv --token-ratio 0.3 --value-keep 0.5

`maps.npz` holds `maps` P[layer, head, query, key] of an encoder (and, for --head-ratio, `outputs`
O[layer, head, query, f]) or, of generated tokens, `maps_0`, `maps_1`, ... P[layer, head, key]. Ratios are the means of
SpAtten's schedule: none pruned in the first layers, then more and more.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cascadesim.einsum_cascades.notation.errors import CascadeSimError
from cascadesim.einsum_cascades.sparsity.pruning import read_maps, rows_of
from cascadesim.einsum_cascades.sparsity.pruning_schedules import ramp_schedule
from cascadesim.einsum_cascades.sparsity.pruning_trace import write_rows


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("maps", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--token-ratio", type=float, default=0.3, help="of tokens pruned, mean over the later layers")
    parser.add_argument("--head-ratio", type=float, default=0.0, help="of heads pruned, mean over the later layers")
    parser.add_argument("--value-keep", type=float, default=1.0, help="of the kept keys, whose values are fetched")
    parser.add_argument("--threshold", type=float, help="largest probability below which low bits are fetched")
    parser.add_argument("--bits", type=int, default=8, help="of keys and values, before the 4 low bits")
    parser.add_argument("--head-dim", type=int, default=64)
    return parser.parse_args()


def main() -> int:
    given = options()
    try:
        maps = read_maps(given.maps)
        schedule = ramp_schedule(
            given.maps.stem, maps.layers, maps.heads, token_ratio=given.token_ratio, head_ratio=given.head_ratio,
            value_keep=given.value_keep, key_bits=given.bits, value_bits=given.bits, threshold=given.threshold,
        )  # fmt: skip
        rows = rows_of(maps.pruned(schedule), schedule, given.head_dim)
    except CascadeSimError as error:
        print(error, file=sys.stderr)
        return 2
    write_rows(rows, given.rows)
    dense = sum(each.size for each in maps.maps)  # a score each
    scores, products = (sum(getattr(row, what) * row.queries for row in rows) for what in ("keys", "values"))
    print(f"{len(rows)} heads; {scores / dense:.1%} of all scores, {products / dense:.1%} of them times values")
    return 0


if __name__ == "__main__":
    sys.exit(main())
