"""One engine of mutations for every reader: damaged files, spliced files, hostile files. Seeded; knows no format.

A mutation takes bytes and gives bytes. Some look for what formats share (numbers, lines, words after a colon or an
equals sign), so that many inputs stay well formed up to the place that is wrong.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

NUMBERS = (
    b"0", b"-1", b"1", b"0.5", b"-0.0", b"1e400", b"1e-400", b"nan", b"inf", b"-inf", b"9" * 19, b"9" * 320,
    b"9" * 5000, b"0x" + b"F" * 4000, b"4611686018427387905", b"-9223372036854775809", b"1e30", b"2.5", b"1_000",
    b"0b1", b"1e5", b"\xd9\xa1", b"65536", b"1K", b"1M", b"99999999M", b"1099511627776",
)  # fmt: skip
SCALARS = (
    b"null", b"true", b"[]", b"{}", b"'text'", b"\"\"", b"[1, 2]", b"{a: 1}", b"~", b"2020-01-01", b"!!binary aGk=",
    b"!!python/object:os.system x", b"!!set {a, b}", b"a", b"<<", b"*a", b"&a b", b"|", b"-", b"NA", b"None", b"\"",
)  # fmt: skip
PIECES = (
    b"\x1b[31m", b"\x00", b"\x07", b"\r", b"\n", b"\t", b"\xe2\x80\xa8", b"\xe2\x80\xae", b"\xff\xfe", b"\xc3", b"\xf0",
    "\u0130".encode(), "e\u0301".encode(), "\U0001f600".encode(), b"\xed\xa0\x80", b"[", b"]", b"{", b"}", b"(", b")",
    b",", b":", b"=", b"==", b"#", b"\"", b"'", b"%", b"//", b"**", b"<", b"!", b"|", b";", b"+", b"-", b" ", b"x",
    b".", b"a: &a [x, x]\nb: *a\n", b"<<: *a\n", b"---\n", b"...\n", b"if 1 else ", b"lambda: ", b"__import__('os')",
    b"\\",
)  # fmt: skip
NESTED = ((b"[", b"]"), (b"(", b")"), (b"{a: ", b"}"), (b"-", b""), (b"max(1, ", b")"), (b"A[", b"]"), (b"not ", b""))
BOMB = b"a: &a [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (98 + level, 98 + level, b", ".join([b"*%c" % (97 + level)] * 9)) for level in range(8)
)
LONG = 100_000  # bytes of a run of the same piece, now and then

_NUMBER = re.compile(rb"-?\d[\d_.]*(?:e[+-]?\d+)?")
_VALUE = re.compile(rb"(?<=[:=,]) ?[^\s,:=\]\[(){}]+")

Corpus = Sequence[bytes]
Mutation = Callable[[bytes, Corpus, random.Random], bytes]


def flip(text: bytes, corpus: Corpus, draw: random.Random) -> bytes:
    if not text:
        return text
    place = draw.randrange(len(text))
    return text[:place] + bytes([text[place] ^ 1 << draw.randrange(8)]) + text[place + 1 :]


def cut(text: bytes, corpus: Corpus, draw: random.Random) -> bytes:
    return text[: draw.randint(0, len(text))]


def remove(text: bytes, corpus: Corpus, draw: random.Random) -> bytes:
    first, last = _range(text, draw)
    return text[:first] + text[last:]


def double(text: bytes, corpus: Corpus, draw: random.Random) -> bytes:
    first, last = _range(text, draw)
    return text[:last] + text[first:last] * draw.choice((1, 1, 2, 50)) + text[last:]


def splice(text: bytes, corpus: Corpus, draw: random.Random) -> bytes:
    other = draw.choice(corpus)
    return text[: draw.randint(0, len(text))] + other[draw.randint(0, len(other)) :]


def number(text: bytes, corpus: Corpus, draw: random.Random) -> bytes:
    return _replaced(text, _NUMBER, draw, draw.choice(NUMBERS))


def scalar(text: bytes, corpus: Corpus, draw: random.Random) -> bytes:
    """Another type where a value stood."""
    return _replaced(text, _VALUE, draw, draw.choice((draw.choice(SCALARS), draw.choice(NUMBERS))))


def borrow(text: bytes, corpus: Corpus, draw: random.Random) -> bytes:
    """The value of another place, or of another file."""
    found = _VALUE.findall(draw.choice(corpus))
    return _replaced(text, _VALUE, draw, draw.choice(found)) if found else text


def insert(text: bytes, corpus: Corpus, draw: random.Random) -> bytes:
    place = draw.randint(0, len(text))
    return text[:place] + draw.choice(PIECES) + text[place:]


def lines(text: bytes, corpus: Corpus, draw: random.Random) -> bytes:
    """A line lost, doubled, moved, or taken from another file."""
    given = text.split(b"\n")
    place, other = draw.randrange(len(given)), draw.randrange(len(given))
    what = draw.randrange(4)
    if what == 0:
        del given[place]
    elif what == 1:
        given.insert(other, given[place])
    elif what == 2:
        given[place], given[other] = given[other], given[place]
    else:
        given[place] = draw.choice(draw.choice(corpus).split(b"\n"))
    return b"\n".join(given)


def nest(text: bytes, corpus: Corpus, draw: random.Random) -> bytes:
    opening, closing = draw.choice(NESTED)
    depth = draw.choice((3, 30, 90, 400))
    first, last = _range(text, draw)
    return text[:first] + opening * depth + text[first:last] + closing * depth + text[last:]


def bomb(text: bytes, corpus: Corpus, draw: random.Random) -> bytes:
    """Aliases that would unfold into 9^9 values, or one very long run."""
    if draw.random() < 0.5:
        return BOMB + text
    place = draw.randint(0, len(text))
    piece = draw.choice((b"a", b" ", b"9", b"[", b"x1", b",", b"\n", b"a:\n"))
    return text[:place] + piece * (LONG // len(piece)) + text[place:]


MUTATIONS: tuple[Mutation, ...] = (flip, cut, remove, double, splice, number, scalar, borrow, insert, lines, nest)
_BOMBS = 0.002  # of all inputs: they cost most


def mutated(corpus: Corpus, draw: random.Random) -> bytes:
    """One of the corpus after one to four mutations."""
    text = draw.choice(corpus)
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 4))):
        text = draw.choice(MUTATIONS)(text, corpus, draw)
    return bomb(text, corpus, draw) if draw.random() < _BOMBS else text


def _range(text: bytes, draw: random.Random) -> tuple[int, int]:
    first = draw.randint(0, len(text))
    return first, min(len(text), first + draw.choice((1, 2, 5, 20, 100)))


def _replaced(text: bytes, pattern: re.Pattern[bytes], draw: random.Random, new: bytes) -> bytes:
    found = list(pattern.finditer(text))
    if not found:
        return text
    place = draw.choice(found)
    return text[: place.start()] + new + text[place.end() :]
