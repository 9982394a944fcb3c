"""A GNA question: how much faster does HunyuanVideo's attention become on a B200 for each coarser stride?

python examples/neighborhood_stride.py
"""

from cascadesim.accelerators.neighborhood_kernels import TileShapes, device
from cascadesim.einsum_cascades.sparsity.masks import neighborhood
from cascadesim.simulator.gna.neighborhood import Question, predict
from cascadesim.simulator.gna.recommend import stride_frontier


def main() -> None:
    tiles = TileShapes(query=(8, 4, 8), key=(2, 8, 8))
    question = Question(neighborhood((30, 48, 80), window=(18, 24, 24)), tiles, extra_keys=256)
    print(f"{question.flop_bound:.2f}x is the most that {question.sparsity:.1%} fewer pairs allow")
    for option in stride_frontier(question):
        stride = "x".join(map(str, option.question.pattern.stride))
        time = predict(option.question, device("b200"))
        masked = "no masked tile" if option.block_sparse else "some tiles masked"
        print(f"stride {stride:8} bound {option.bound.worst:5.2f}x, kernel {time.kernel_speedup:5.2f}x, {masked}")


if __name__ == "__main__":
    main()
