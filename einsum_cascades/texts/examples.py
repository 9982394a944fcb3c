"""The two smallest cascades that differ in passes: FuseMax (MICRO'24), cascades 1 and 2.

They compute the same number; the second defers the product past the sum and walks A's fiber once.
"""

from __future__ import annotations

from cascadesim.einsum_cascades.notation.notation import cascade

TOY_TWO_PASS = cascade("toy-two-pass", """
    Y = A[k] * B[k]
    Z = Y * A[k]            # needs the finished Y with every element of A again
""")

TOY_ONE_PASS = cascade("toy-one-pass", """
    Y = A[k] * B[k]
    X = A[k]                # rides along
    Z = Y * X
""")
