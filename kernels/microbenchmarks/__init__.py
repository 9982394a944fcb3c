"""Single rates of a GPU, one kernel each: matrix unit, exponentials, memory levels, launches. No reference: they
measure.

`triton` holds those that Triton can express; `cuda/*.cu` exact instruction sequences, plain extern "C".
"""

