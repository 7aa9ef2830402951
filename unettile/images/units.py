"""Units: how many micrometres or seconds a file states, in whatever number, unit and spelling."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any

_METRE = 1e6
_INCH = 25400.0

# Case tells mega from milli and peta from pico, so that symbols are taken as they stand.
_SYMBOL_PREFIXES = {
    "Y": 1e24, "Z": 1e21, "E": 1e18, "P": 1e15, "T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3, "h": 1e2, "da": 1e1,
    "": 1.0, "d": 1e-1, "c": 1e-2, "m": 1e-3, "μ": 1e-6, "u": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15, "a": 1e-18,
    "z": 1e-21, "y": 1e-24,
}  # fmt: skip
_WORD_PREFIXES = {
    "yotta": 1e24, "zetta": 1e21, "exa": 1e18, "peta": 1e15, "tera": 1e12, "giga": 1e9, "mega": 1e6, "kilo": 1e3,
    "hecto": 1e2, "deca": 1e1, "deka": 1e1, "": 1.0, "deci": 1e-1, "centi": 1e-2, "milli": 1e-3, "micro": 1e-6,
    "mikro": 1e-6, "nano": 1e-9, "pico": 1e-12, "femto": 1e-15, "atto": 1e-18, "zepto": 1e-21, "yocto": 1e-24,
}  # fmt: skip
_NAMES = {
    "micron": 1.0, "å": 1e-4, "angstrom": 1e-4, "ångström": 1e-4, "ångstrom": 1e-4,
    "inch": _INCH, "inches": _INCH, "in": _INCH, '"': _INCH, "thou": _INCH / 1000, "mil": _INCH / 1000,
    "line": _INCH / 12, "li": _INCH / 12, "pt": _INCH / 72, "point": _INCH / 72,
    "ft": 12 * _INCH, "foot": 12 * _INCH, "feet": 12 * _INCH, "yd": 36 * _INCH, "yard": 36 * _INCH,
    "mi": 63360 * _INCH, "mile": 63360 * _INCH,
    "ua": 149_597_870_700 * _METRE, "ly": 9_460_730_472_580_800 * _METRE, "lightyear": 9_460_730_472_580_800 * _METRE,
    "pc": 3.0856775814913673e16 * _METRE, "parsec": 3.0856775814913673e16 * _METRE,
}  # fmt: skip
_TIMES = {
    "min": 60.0, "minute": 60.0, "h": 3600.0, "hr": 3600.0, "hour": 3600.0, "d": 86400.0, "day": 86400.0,
}  # fmt: skip


def in_micrometres(value: Any, unit: str) -> float:
    """Return a length in micrometres; NaN if it is no number, or the unit is not known.

    >>> in_micrometres("0,25", "µm"), in_micrometres(250, "nanometers"), in_micrometres(1, "pixel")
    (0.25, 0.25, nan)
    """
    return number(value) * unit_um(unit)


def unit_um(unit: str) -> float:
    """Return how many micrometres a unit of length is, symbol or word; NaN if it is not known.

    Escapes such as `\\\\u00B5`, which ImageJ writes, both signs for micro and for ångström, and a micro sign that was
    read in another encoding than it was written are understood.

    >>> unit_um("micrometers"), unit_um("mm"), unit_um("Mm"), unit_um("reference frame")
    (1.0, 1000.0, 1000000000000.0, nan)
    """
    text = _plain(unit)
    symbol = text.lower() if text in ("UM", "NM", "MM", "CM") else text
    if symbol.endswith("m") and symbol[:-1] in _SYMBOL_PREFIXES:
        return _whole(_SYMBOL_PREFIXES[symbol[:-1]] * _METRE)
    word = text.lower()
    for ending in ("meters", "metres", "meter", "metre"):
        if word.endswith(ending) and word.removesuffix(ending) in _WORD_PREFIXES:
            return _whole(_WORD_PREFIXES[word.removesuffix(ending)] * _METRE)
    return _NAMES.get(word, _NAMES.get(word.removesuffix("s"), math.nan))


def in_seconds(value: Any, unit: str) -> float:
    """Return a time in seconds; NaN if it is no number, or the unit is not known.

    >>> in_seconds("2,5", "min"), in_seconds(40, "ms"), in_seconds(1, "frame")
    (150.0, 0.04, nan)
    """
    return number(value) * unit_s(unit)


def unit_s(unit: str) -> float:
    """Return how many seconds a unit of time is, symbol or word; NaN if it is not known. Spellings as in `unit_um`.

    >>> unit_s("seconds"), unit_s("msec"), unit_s("h"), unit_s("m")
    (1.0, 0.001, 3600.0, nan)
    """
    text = _plain(unit)
    word = text.lower()
    for ending in ("seconds", "second"):
        if word.endswith(ending) and word.removesuffix(ending) in _WORD_PREFIXES:
            return _WORD_PREFIXES[word.removesuffix(ending)]
    for ending in ("secs", "sec", "s"):
        prefix = (text if ending == "s" else word).removesuffix(ending)
        if word.endswith(ending) and prefix in _SYMBOL_PREFIXES:
            return _SYMBOL_PREFIXES[prefix]
    return _TIMES.get(word, _TIMES.get(word.removesuffix("s"), math.nan))


def number(value: Any) -> float:
    """Return a number, with a point or a comma before its fraction; NaN if it is none.

    >>> number("0,5"), number(" 0.5 "), number("1.234,5"), number("1,234.5"), number("1,2,3")
    (0.5, 0.5, 1234.5, 1234.5, nan)
    """
    if isinstance(value, str) and "," in value:  # the mark that comes last stands before the fraction
        decimal = value.rfind(",") > value.rfind(".")
        value = value.replace(".", "").replace(",", ".") if decimal else value.replace(",", "")
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _plain(unit: str) -> str:
    """Return a unit without escapes and blanks, and with one sign for each thing.

    NFKC makes the micro sign a Greek mu, and the ångström sign a letter. Â is half of a UTF-8 µ.
    """
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), unit)
    return unicodedata.normalize("NFKC", text.replace("Âµ", "µ").replace("Î¼", "µ")).strip().rstrip(".").strip()


def _whole(micrometres: float) -> float:
    """Return a power of ten as the nearest number to it: 1e-9 · 1e6 is not 1e-3."""
    return float(f"{micrometres:.15g}")
