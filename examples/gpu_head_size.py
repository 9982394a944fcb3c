"""A GPU question: what does an H100 make of attention with 64, 128 and 256 elements per head, and what bounds it?

python examples/gpu_head_size.py
"""

from cascadesim.accelerators.catalogue import load
from cascadesim.einsum_cascades.models.workload import load_workload
from cascadesim.simulator.simulate import simulate

WIDTH = 4096  # heads x elements per head: the same work in all three


def main() -> None:
    gpu = load("h100-sxm")
    for size in (64, 128, 256):
        heads = WIDTH // size
        attention = (f"attention.heads={heads}", f"attention.kv_heads={heads}", f"attention.head_dim={size}")
        model = load_workload("llama-3.1-8b", attention)
        (report,) = simulate(model, gpu, sequence_length=16_384, scope="attention", fidelity="analytical")
        flops = 4 * heads * size * 16_384 * 16_385 / 2  # two products of the causal half
        rate = flops / report.latency_s * 1e-12
        print(f"head size {size:3}: {report.latency_s * 1e3:6.2f} ms, {rate:4.0f} TFLOP/s, bound by {report.bound_by}")


if __name__ == "__main__":
    main()
