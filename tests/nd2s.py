"""ND2 files as Nikon's microscopes write them: chunks, a map of them at the end, metadata as CLX lite variants."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

_MAGIC = 0x0ABECEDA
_MAP, _END = b"ND2 FILEMAP SIGNATURE NAME 0001!", b"ND2 CHUNK MAP SIGNATURE 0000001!"
_LOOPS = {"T": 1, "P": 2, "Z": 4}


def write_nd2(
    path: Path,
    frames: NDArray[Any],
    axes: str,
    names: tuple[str, ...],
    *,
    compressed: bool = False,
    padding: int = 0,
    positions: tuple[str, ...] = ("", ""),
    kept: int | None = None,
    z_step: float = 1.0,
    periods: tuple[float, ...] = (1.0,),
    mean_period: float = 0.0,
) -> Path:
    """Write frames (…, Y, X, components) with pixels of 0.25 µm.

    Args:
        axes: letters of T, Z and P, of the first dimensions.
        names: of the channels; more components than these are colours.
        padding: bytes at the end of each row.
        positions: names of them.
        z_step: µm.
        periods: ms, of the phases of a recording in time; 0 for as fast as may be.
        mean_period: ms, as it was measured.
        kept: of how many frames the recording came to; None for all.
    """
    height, width, components = frames.shape[-3:]
    flat = frames.reshape(-1, height, width, components)
    size, count = frames.dtype.itemsize, len(flat) if kept is None else kept
    attributes = {
        "uiWidth": width,
        "uiWidthBytes": width * components * size + padding,
        "uiHeight": height,
        "uiComp": components,
        "uiBpcInMemory": 8 * size,
        "uiBpcSignificant": 8 * size,
        "uiSequenceCount": count,
        "eCompression": 0 if compressed else 2,
    }
    each = components // len(names)
    probe = {"m_ExcitationSpectrum": {"uiCount": 0}, "m_EmissionSpectrum": {"uiCount": 0}}
    planes = {
        f"a{number}": {"sDescription": name, "uiCompCount": each, "uiColor": 0, "pFluorescentProbe": probe}
        for number, name in enumerate(names)
    }
    picture = {
        "bCalibrated": True,
        "dCalibration": 0.25,
        "sPicturePlanes": {"uiCount": len(names), "sPlaneNew": planes},
    }
    chunks = {
        b"ImageAttributesLV!": variant("SLxImageAttributes", attributes),
        b"ImageMetadataSeqLV|0!": variant("SLxPictureMetadata", picture),
    }
    if axes:
        chunks[b"ImageMetadataLV!"] = variant(
            "SLxExperiment", _loop(axes, frames.shape, positions, z_step, periods, mean_period)
        )
    for number, frame in enumerate(flat[:count]):
        rows = [row.tobytes() + b"\xee" * padding for row in frame]
        data = b"".join(rows)
        chunks[b"ImageDataSeq|%d!" % number] = struct.pack("<d", 0.0) + (zlib.compress(data) if compressed else data)
    places = {}
    with path.open("wb") as file:
        _put(file, b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver3.0".ljust(64, b"\0"), 32)
        for name, data in chunks.items():
            places[name] = _put(file, name, data, 4072), len(data)
        listed = b"".join(name + struct.pack("<QQ", *place) for name, place in places.items())
        start = file.tell()
        _put(file, _MAP, listed + _END + struct.pack("<Q", start), 32)
    return path


def variant(name: str, value: Any) -> bytes:
    """Return a value as a CLX lite variant: its type, its name, itself."""
    kinds = {bool: (1, "<?"), int: (3, "<I"), float: (6, "<d")}
    if isinstance(value, str):
        return _head(8, name) + (value + "\0").encode("utf-16-le")
    if not isinstance(value, dict | list):
        kind, form = kinds[type(value)]
        return _head(kind, name) + struct.pack(form, value)
    items = [("", one) for one in value] if isinstance(value, list) else list(value.items())
    inner = b"".join(variant(*item) for item in items)
    head = _head(11, name)
    places = struct.pack(f"<{len(items)}Q", *([0] * len(items)))  # from the start of the level; readers do without
    return head + struct.pack("<IQ", len(items), len(head) + 12 + len(inner)) + inner + places


def _head(kind: int, name: str) -> bytes:
    return struct.pack("<BB", kind, len(name) + 1) + (name + "\0").encode("utf-16-le")


def _loop(
    axes: str,
    lengths: tuple[int, ...],
    positions: tuple[str, ...],
    z_step: float,
    periods: tuple[float, ...],
    mean_period: float,
) -> dict[str, Any]:
    """Return the loop of the first axis, which holds that of the next."""
    count = lengths[0]
    parameters: dict[str, Any] = {"uiCount": count}
    kind = _LOOPS[axes[0]]
    mean = {"dAvgPeriodDiff": mean_period}
    phases = [{"dStart": 0.0, "dPeriod": period, "dDuration": count * period} | mean for period in periods]
    if axes[0] == "T" and len(phases) > 1:
        kind, each = 8, [{"uiCount": count // len(phases)} | phase for phase in phases]
        parameters |= {"pPeriod": {f"i{k}": phase for k, phase in enumerate(each)}, "pPeriodValid": [True] * len(each)}
    elif axes[0] == "T":
        parameters |= phases[0]
    elif axes[0] == "Z":
        parameters |= {"dZLow": 0.0, "dZHigh": (count - 1) * abs(z_step), "dZStep": z_step}
    else:
        parameters["Points"] = [{"dPosX": float(k), "dPosY": 0.0, "dPosName": positions[k]} for k in range(count)]
    found: dict[str, Any] = {"eType": kind, "uLoopPars": parameters}
    if len(axes) > 1:
        found["ppNextLevelEx"] = [_loop(axes[1:], lengths[1:], positions, z_step, periods, mean_period)]
    return found


def _put(file: Any, name: bytes, data: bytes, reserved: int) -> int:
    place: int = file.tell()
    file.write(struct.pack("<IIQ", _MAGIC, reserved, len(data)) + name.ljust(reserved, b"\0") + data)
    return place
