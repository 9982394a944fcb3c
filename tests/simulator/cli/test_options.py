"""Options read: values or one clear refusal, whatever the text."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascadesim.simulator.cli.options import (
    LARGEST_BATCH,
    LONGEST_SEQUENCE,
    lengths,
    names,
    new_file,
    one_of,
    setting,
    whole,
)
from cascadesim.simulator.views.output import length as spelt


def test_lengths_take_powers_of_1024() -> None:
    assert lengths("4096") == (4096,)
    assert lengths("1K, 64k,1M") == (1024, 65536, 2**20)
    assert lengths("4K,4096") == (4096,)  # each once


@pytest.mark.parametrize("text", ["", "0", "-1", "-4K", "1.5K", "1G", "K", "4 K", "1K,,2K", "1e3", "٣", "0x10", "17M",
                                  "--1", "9" * 5000])  # fmt: skip
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        lengths(text)


@pytest.mark.parametrize("number", [1024, 4096, 8192, 16384, 32768, 65536, 131072, 262144, 524288, 1048576, 1000, 4512,
                                    24576, 98304])  # fmt: skip
def test_a_number_with_a_comma_in_it_is_not_two_lengths(number: int) -> None:
    with pytest.raises(click.BadParameter, match=f"did you mean {number}\\?"):
        lengths(f"{number:,}")


@pytest.mark.parametrize("text", ["128,256", "64,128,256,512", "16,512", "512,544", "384,768", "100,300,900",
                                  "4,96", "128,2048", "4, 096", "1K,512"])  # fmt: skip
def test_lists_of_lengths_are_lists(text: str) -> None:
    assert len(lengths(text)) == text.count(",") + 1


@given(st.integers(min_value=1, max_value=LONGEST_SEQUENCE))
def test_a_length_reads_back_as_it_is_spelt(tokens: int) -> None:
    assert lengths(spelt(tokens)) == (tokens,)


@given(st.text())
def test_any_text_is_lengths_or_refused(text: str) -> None:
    try:
        found = lengths(text)
    except click.BadParameter:
        return
    assert all(1 <= tokens <= LONGEST_SEQUENCE for tokens in found)


@given(st.text())
def test_any_text_is_a_batch_or_refused(text: str) -> None:
    with suppress(click.BadParameter):
        assert 1 <= whole(1, LARGEST_BATCH)(text) <= LARGEST_BATCH


@given(st.text())
def test_any_text_is_a_setting_or_refused(text: str) -> None:
    try:
        assert "=" in setting(text)
    except click.BadParameter:
        field = text.partition("=")[0]
        assert "=" not in text or not all(part.strip() for part in field.split("."))


def test_names_are_separated_by_commas() -> None:
    assert names("flat, fusemax,flat") == ("flat", "fusemax")
    with pytest.raises(click.BadParameter, match="empty name"):
        names("flat,")


def test_a_file_name_may_have_a_comma(tmp_path: Path) -> None:
    path = tmp_path / "a,b.yaml"
    path.touch()
    assert names(str(path)) == (str(path),)


def test_a_choice_guesses_what_was_meant() -> None:
    with pytest.raises(click.BadParameter, match="did you mean 'decode'"):
        one_of("prefill", "decode")("decoed")
    with pytest.raises(click.BadParameter, match="one of: prefill, decode"):
        one_of("prefill", "decode")("x")


def test_a_file_to_write_has_one_of_the_suffixes() -> None:
    assert new_file(".png", ".svg")("figure.SVG") == Path("figure.SVG")
    for text in ("figure.pdf", "figure", "", " ", "a\0.png"):
        with pytest.raises(click.BadParameter):
            new_file(".png", ".svg")(text)
