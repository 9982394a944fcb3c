"""What pruning costs, counted: which rank is walked once more, what stays live, what is read less."""

from __future__ import annotations

import pytest

from cascadesim.einsum_cascades.analysis.analysis import analyse
from cascadesim.einsum_cascades.analysis.counts import operations
from cascadesim.einsum_cascades.analysis.footprint import live_footprint, minimum_words
from cascadesim.einsum_cascades.texts.catalogue import find

SIZES = {"H": 2, "P": 3, "M": 64, "M0": 8, "M1": 8, "E": 4, "F": 4, "KEEP": 16, "K": 16, "J": 16}


def passes_of(name: str) -> dict[str, int]:
    """Einsum -> the pass over m in which it runs, the last line of a name."""
    main = analyse(find(name), "m").main
    return {einsum.name: main.pass_of(number) for number, einsum in enumerate(find(name).einsums)}


def test_importance_of_tokens_costs_one_pass_attention_a_second_pass_over_keys() -> None:
    """Column sums need the final maximum and denominator of every row."""
    assert find("attention-1pass").passes("m") == 1
    assert find("pruned-1pass").passes("m") == 2
    second = {name for name, number in passes_of("pruned-1pass").items() if number == 2}
    assert second == {"LS", "S"}


def test_and_keeps_the_numerators_of_all_queries_live() -> None:
    assert live_footprint(find("attention-1pass"), "m").constant_in_rank
    kept = live_footprint(find("pruned-1pass"), "m")
    assert not kept.constant_in_rank
    assert kept.bound(SIZES) == 2 * 3 * (64 + 8)  # h, p: all numerators, and one maximum a tile


def test_the_second_pass_by_itself_reads_no_values_and_divides_once_a_query() -> None:
    assert find("token-importance").passes("m") == 1
    assert "V" not in find("token-importance").inputs
    divided = [einsum for einsum in find("token-importance").einsums if "divide" in operations(einsum)]
    assert [einsum.output.ranks for einsum in divided] == [("h", "p")]
    assert live_footprint(find("token-importance"), "m").constant_in_rank


def test_importance_of_tiles_costs_no_pass() -> None:
    assert find("pruned-1pass-tiles").passes("m") == 1
    assert live_footprint(find("pruned-1pass-tiles"), "m").bound(SIZES) == 2 * 2 * 3 * 8 + 8  # SLD and RM of 8 tiles


@pytest.mark.parametrize("name", ["cascade-token-pruning", "cascade-head-pruning", "local-value-pruning",
                                  "attention-pruned"])
def test_attention_of_three_passes_is_pruned_in_its_third(name: str) -> None:
    """Probabilities are there only then; whatever `top` keeps is read after it."""
    assert find(name).passes("m") == 3
    assert passes_of(name)["A"] == 3


def test_local_value_pruning_by_scores_walks_keys_once_but_keeps_them_all_live() -> None:
    pruned = find("local-value-pruning-1pass")
    assert pruned.passes("m") == 1
    assert live_footprint(pruned, "m").bound(SIZES) == 64


def test_local_value_pruning_reads_the_kept_values_only() -> None:
    """A row of each head: here all queries' choices could be the same 16 of 64."""
    dense, pruned = minimum_words(find("attention-3pass")), minimum_words(find("local-value-pruning"))
    assert (dense - pruned).bound(SIZES) == 2 * (64 - 16) * 4


def test_the_largest_probability_is_known_in_the_third_pass_or_at_the_end_of_the_first() -> None:
    assert passes_of("progressive-quantization")["PM"] == 3
    assert find("progressive-quantization").passes("m") == 6
    assert passes_of("progressive-quantization-2pass")["LOW"] == 1
    assert find("progressive-quantization-2pass").passes("m") == 2


def test_a_choice_compares_each_element_once() -> None:
    """assumed by `top`: a streaming selector. The engine's rounds are the accelerator's business."""
    choice = find("cascade-token-pruning").einsum("I")
    assert {kind: count.bound(SIZES) for kind, count in operations(choice).items()} == {"compare": 64}
