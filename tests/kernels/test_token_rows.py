"""Row copies in the interpreter against indexing."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")
pytest.importorskip("triton", reason="kernels need torch and triton: pip install 'cascadesim[kernels]'")

from cascadesim.kernels.token_rows import reference, triton  # noqa: E402


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.uint8], ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 70, 40), (1, 1, 200, 64), (5, 16)])
def test_rows_are_gathered_and_scattered_exactly(shape: tuple, dtype) -> None:
    source = (100 * torch.rand(*shape)).to(dtype)
    index = torch.randperm(shape[-2]).int()
    index[::3] = -1  # padding
    gathered = triton.gather_rows(source, index)
    assert (gathered == reference.gather_rows(source, index)).all()
    back = triton.scatter_rows(gathered, index, shape[-2])
    assert (back == reference.scatter_rows(gathered, index, shape[-2])).all()
    kept = index[index >= 0].long()
    assert (back[..., kept, :] == source[..., kept, :]).all()
