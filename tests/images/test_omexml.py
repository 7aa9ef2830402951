"""OME-XML of others: what fits is read, what does not counts as not said."""

from __future__ import annotations

import math

import pytest

from unettile.images.omexml import MOST_CHANNELS, read_omexml

NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"


def image(pixels: str, inner: str = "") -> str:
    return f'<?xml version="1.0"?><OME xmlns="{NAMESPACE}"><Image><Pixels {pixels}>{inner}</Pixels></Image></OME>'


def test_what_fits_is_read() -> None:
    said = read_omexml(
        image(
            'PhysicalSizeX="0,25" PhysicalSizeY="500" PhysicalSizeYUnit="nm"',
            '<Channel Name="DAPI"/><Channel SamplesPerPixel="3"/><Plane PositionX="2" PositionY="1"/>'
            '<Plane PositionX="2" PositionXUnit="mm" PositionY="1" PositionYUnit="mm"/>',
        )
    )
    assert said is not None
    found = said.image(0)
    assert found is not None and (found.height_um, found.width_um) == (0.5, 0.25) and found.states_size
    assert found.channels == ("DAPI", "", "", "") and found.origin_um == (1000.0, 2000.0), "the first with a unit"
    assert said.image(1) is None


@pytest.mark.parametrize("unit", ["µ" * 200, "furlong", ""])
def test_a_size_without_a_known_unit_is_none(unit: str) -> None:
    said = read_omexml(image(f'PhysicalSizeX="0.5" PhysicalSizeXUnit="{unit}"'))
    found = said.image(0) if said else None
    assert found is not None and math.isnan(found.width_um) and math.isnan(found.height_um)


@pytest.mark.parametrize("samples", ["-1", "0", "1e9", "9" * 5000, str(MOST_CHANNELS + 1), "²", "nan"])
def test_channels_are_counted_within_bounds(samples: str) -> None:
    said = read_omexml(image("", f'<Channel Name="a"/><Channel Name="b" SamplesPerPixel="{samples}"/>'))
    found = said.image(0) if said else None
    assert found is not None and found.channels == ("a", "")
    many = read_omexml(image("", f'<Channel Name="a"/><Channel SamplesPerPixel="{MOST_CHANNELS}"/>'))
    found = many.image(0) if many else None
    assert found is not None and found.channels == (), "too many to be true"


@pytest.mark.parametrize(
    "text", ["<OME", "<OME/><OME/>", '<!DOCTYPE a [<!ENTITY b "c">]><OME>&b;</OME>', "no XML", "<OME>\0</OME>", ""]
)
def test_what_is_no_safe_xml_says_nothing(text: str) -> None:
    assert read_omexml(text) is None


def test_annotations_are_found_by_their_namespace() -> None:
    said = read_omexml(
        '<OME><A Namespace="x"><V>{"a":</V><V>1}</V></A><A Namespace="y"><M K="1">#ff0000</M><M>z</M></A></OME>'
    )
    assert said is not None and said.note("x") == '{"a":1}' and said.note("z") == ""
    assert list(said.entries("y")) == [("1", "#ff0000")]
