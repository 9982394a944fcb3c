"""The collected file of published figures as rows of one kind: `python -m cascadesim.validation.systems.clean RAW OUT`.

The file was collected from many texts: units contradict quantities, values are ranges or formulas, devices hold counts,
figures stand under two ids. What a row says that is no figure of ours is dropped with the reason, never guessed.
Spellings and rules are tables (`cleaning.yaml`), so that other rows of the same tables fall under them.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from cascadesim.einsum_cascades.notation.schema import LARGEST_TABLE_BYTES, read_text
from cascadesim.validation.systems.claim_row import CAUSAL, CERTAINTIES, COUNTS, ClaimRow, claim_row, write_rows
from cascadesim.validation.systems.figures import Figure, figures, reading_error, tables
from cascadesim.validation.table import CannotJudge, Layout, Value, columns_of, parse_table

Texts = Mapping[str, str]
_OPTIONAL = ("unit baseline device count model layers heads kv_heads head_dim hidden batch seq_len generated dtype "
             "causal mechanism phase source certainty note")  # fmt: skip
RAW = Layout(
    (*columns_of(str, "system claim_id quantity value"), *columns_of(str, _OPTIONAL, required=False)), key=("claim_id",)
)
DROPPED = "dropped: "  # how a comment of a clean file begins that names a row without a figure, and why
_SIZES = tuple(name for name in COUNTS if name != "devices")
_WHOLE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,3})?)([KM]?)")
_FRAMES = re.compile(r"([0-9]{1,6}) frames \(x ([0-9]{1,6}) visual tokens\)")
_POWERS = {"": 1, "K": 1024, "M": 1024**2}  # of lengths
_NO_ONE_LENGTH = re.compile(r"up to|ragged|>|[0-9]K?-[0-9]")
_DTYPE = re.compile(r"(bf16|fp16|fp32|fp8|16 bits)(?!.*not stated)")
_FROM_LENGTH = re.compile(r"for L >= ([0-9]{1,9}); partial below(?: \((.*)\))?")
_READ = re.compile(r"read (?:from|by)")
_ABOVE = re.compile(r"(?:same|as (?:the rows )?above)(?=,|$)")
_TOKENS = re.compile(r"([0-9]+) tokens")
_STATED_WITH = {"kv_heads": "heads", "head_dim": "heads", "devices": "device"}  # what a text that lacks them calls them
MOST_APART = 0.02  # of a figure read twice, assumed: the eye misses a bar's end by no more


@dataclass(frozen=True)
class Cleaned:
    """The rows, and (id, why) of what was left out."""

    rows: tuple[ClaimRow, ...]
    dropped: tuple[tuple[str, str], ...]


def clean(text: str, source: str) -> Cleaned:
    """The rows of a file of the collected columns. Raises SpecError where it is no such table."""
    parsed = parse_table(text, RAW, source)
    named = [{name: str(cell or "") for name, cell in row.cells} for row in parsed.rows]
    raw = [dict.fromkeys(_OPTIONAL.split(), "") | row for row in named]
    rows, dropped = [], []
    for texts in _resolved(raw):
        try:
            rows += _rows(texts)
        except CannotJudge as reason:
            dropped.append((texts["claim_id"], str(reason)))
    systems = list(dict.fromkeys(row.system for row in rows))
    return Cleaned(tuple(sorted(_merged(rows), key=lambda row: systems.index(row.system))), tuple(dropped))


def _resolved(raw: Sequence[Texts]) -> Iterator[Texts]:
    """The rows with "as above" and "same" spelt out: what the last row of the system, best of its device, says."""
    said: dict[tuple[str, str, str], str] = {}
    for row in raw:
        device, full = row["device"], dict(row)
        for name in ("source", "baseline", "model", "dtype", "mechanism", "note"):
            above = said.get((row["system"], device, name), said.get((row["system"], "", name), ""))
            if found := _ABOVE.match(row[name]):
                full[name] = above + row[name][found.end():]
            if full[name]:
                said[row["system"], device, name] = said[row["system"], "", name] = full[name]
        yield full


def _rows(texts: Texts) -> list[ClaimRow]:
    """A row of the file as one of ours, or two. Raises CannotJudge where it holds no figure."""
    sizes = {name: _size(name, texts[name]) for name in _SIZES}
    if at := re.search(r"\bat ([0-9]+K)\b", texts["unit"]):
        sizes["seq_len"] = sizes["seq_len"] or _size("seq_len", at[1])
    kind = f"{texts['system']}: {texts['quantity']}"
    reading = _reading(texts, sizes["seq_len"])
    found = figures(texts["value"], texts["unit"], kind, reading)
    return [_row(texts, sizes, figure) for figure in found]


def _reading(texts: Texts, length: int | None) -> Decimal | None:
    stated = f"{texts['certainty']} {texts['note']}"
    number = re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", texts["value"])
    return reading_error(stated, length, Decimal(number[0])) if number and Decimal(number[0]) else None


def _row(texts: Texts, sizes: Mapping[str, int | None], figure: Figure) -> ClaimRow:
    device, devices, open_device, sure = _device(texts)
    part = figure.part or _part(texts)
    certainty, lacks = _certainty(texts, sizes["seq_len"], figure.single)
    missing = (lacks, open_device if open_device not in lacks else "")
    dtype = _DTYPE.match(texts["dtype"].lower())
    read: dict[str, Value] = {
        **{name: texts[name] for name in ("system", "baseline", "model", "mechanism", "phase", "source")}, **sizes,
        "id": texts["claim_id"] + (f"-{figure.part}" if figure.part else ""), "quantity": figure.quantity,
        "value": figure.value, "half_width": figure.half_width, "printed": f"{texts['value']} {texts['unit']}".strip(),
        "device": device, "devices": devices, "dtype": dtype[0].replace("16 bits", "fp16") if dtype else "",
        "causal": next((known for known in CAUSAL if texts["causal"].partition(",")[0] == known), ""), "part": part,
        "role": _role({**texts, "part": part}), "lacks": "; ".join(filter(None, missing)),
        "certainty": "partial" if certainty in ("exact", "read") and not sure else certainty,
    }  # fmt: skip
    return claim_row({**read, "note": "; ".join(filter(None, (texts["note"].lstrip(", "), *_unread(texts, read))))})


def _unread(texts: Texts, read: Mapping[str, Value]) -> Iterator[str]:
    """What the cells say beyond what was read of them, for the note."""
    for name in (*_SIZES, "dtype", "causal", "device"):
        whole = name not in ("dtype", "causal") or texts[name].lower() == read[name]
        if texts[name] and (not read[name] or not whole):
            yield f"{name}: {texts[name]}"


def _size(name: str, text: str) -> int | None:
    """The whole number, `64K` in powers of 1024, tokens of so many frames; None where there is none."""
    if frames := _FRAMES.fullmatch(text):
        return int(frames[1]) * int(frames[2])
    whole = _WHOLE.fullmatch(text)
    if whole is None:
        return None
    size = Decimal(whole[1]) * _POWERS[whole[2]]
    return int(size) if 0 < size <= 2**40 and size == int(size) else None


def _device(texts: Texts) -> tuple[str, int | None, str, bool]:
    """(preset, how many, what the name leaves open, whether it may be exact)."""
    stated = texts["device"]
    counted = re.match(r"([0-9]{1,6}) ?x ", stated)
    preset, lacks, sure = next((preset, lacks, sure) for pattern, preset, lacks, sure in tables()["devices"]
                               if re.search(pattern, stated))  # fmt: skip
    return preset, _size("devices", counted[1] if counted else texts["count"]), lacks, bool(sure)


def _part(texts: Texts) -> str:
    """Which column of its table a row is, where only its id says so."""
    for system, pattern in tables()["parts"]:
        found = re.search(pattern, texts["claim_id"]) if re.search(system, texts["system"]) else None
        if found:
            return found[1]
    return ""


def _role(texts: Texts) -> str:
    rules: Any = tables()["roles"]
    fitting = (rule["role"] for rule in rules
               if all(re.search(pattern, texts[name]) for name, pattern in rule.items() if name != "role"))  # fmt: skip
    return next(fitting, "mechanism")


def _certainty(texts: Texts, length: int | None, single: bool) -> tuple[str, str]:
    """(certainty, what is missing) of a row, as its texts say; a condition that does not hold is missing."""
    stated, note = texts["certainty"], texts["note"]
    if not stated.startswith("exact"):
        known = "abstract" if stated.startswith("abstract") else "partial"
        rest = re.sub(r"^(?:partial|abstract(?: only)?)[:;, ]*\(?|(?<=missing)\)$", "", stated)
        return known, rest or re.sub(r"^, |; \+-.*", "", note) or ("not said" if known == "partial" else "")
    if bound := _FROM_LENGTH.search(stated):
        return ("exact", "") if (length or 0) >= int(bound[1]) else ("partial", bound[2] or "")
    if needed := re.search(r"; (.*) needed$", stated):
        return "partial", needed[1]
    if not single or _NO_ONE_LENGTH.search(texts["seq_len"]):
        return "partial", "one number" if not single else "one length"
    return "read" if _READ.search(f"{stated} {note} {texts['source']}") else "exact", ""


def _merged(rows: Iterable[ClaimRow]) -> tuple[ClaimRow, ...]:
    """The rows with each figure once: the fuller of two stays where the first stood, and its note names the other."""
    kept: list[ClaimRow] = []
    alike: dict[tuple[str, str], list[int]] = {}  # (system, quantity) -> places
    for row in rows:
        places = alike.setdefault((row.system, row.quantity), [])
        place = next((place for place in places if _one_figure(kept[place], row)), None)
        if place is None:
            places.append(len(kept))
            kept.append(row)
            continue
        less, fuller = sorted((kept[place], row), key=_fullness)
        kept[place] = replace(fuller, note="; ".join(filter(None, (fuller.note, f"also {less.id}", _also(less)))))
    return tuple(kept)


def _also(row: ClaimRow) -> str:
    """The other ids that a row's note names already."""
    return "; ".join(part for part in row.note.split("; ") if part.startswith("also "))


def _fullness(row: ClaimRow) -> tuple[int, int]:
    return -CERTAINTIES.index(row.certainty), sum(cell not in ("", None) for cell in asdict(row).values())


def _one_figure(one: ClaimRow, other: ClaimRow) -> bool:
    """Whether two rows of a system and a quantity are one figure: two sources of it, nothing that contradicts."""
    if one.source == other.source and "abstract" not in one.source:
        return False
    apart = min(max(one.half_width, other.half_width), MOST_APART * one.value)
    if abs(one.value - other.value) > apart * (1 + 1e-9):
        return False
    headlines = (one.certainty, other.certainty).count("abstract")
    if not headlines and (one.role != other.role or one.backward != other.backward):
        return False
    return _sizes_agree(one, other) and (headlines == 1 or _models_agree(one.model, other.model))


def _sizes_agree(one: ClaimRow, other: ClaimRow) -> bool:
    """No size, device or budget differs that both rows state and are sure of."""
    lacks = f"{one.lacks} {other.lacks}"
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("device", *COUNTS)
             if _STATED_WITH.get(name, name) not in lacks]  # fmt: skip
    budgets = [_TOKENS.search(row.mechanism) for row in (one, other)]
    pairs.append((budgets[0] and budgets[0][1], budgets[1] and budgets[1][1]))
    return all(not first or not second or first == second for first, second in pairs)


def _models_agree(one: str, other: str) -> bool:
    """One name holds all words of the other, or there is only one."""
    first, second = ({word for word in re.split(r"[^\w.]+", name.lower()) if word} for name in (one, other))
    return first <= second or second <= first


def write_clean(cleaned: Cleaned, source: str, stream: Any) -> None:
    """Write the rows as our own file has them, and what was dropped as comments."""
    stream.write(f"# Source: {source}: published figures of attention systems, each row cites its own. Written by "
                 "`python -m cascadesim.validation.systems.clean`.\n# SI units; half_width: half of the last printed "
                 "digit, of a range, or how far a picture was read.\n")
    write_rows(cleaned.rows, stream)
    for name, why in cleaned.dropped:
        stream.write(f"# {DROPPED}{name}: {why}\n")


def main(arguments: Sequence[str]) -> None:
    """Write our copy of a collected file."""
    raw, out = map(Path, arguments)
    cleaned = clean(read_text(raw, LARGEST_TABLE_BYTES), raw.name)
    with out.open("w", encoding="utf-8", newline="") as stream:
        write_clean(cleaned, raw.name, stream)


if __name__ == "__main__":
    main(sys.argv[1:])
