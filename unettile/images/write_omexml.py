"""Writing OME-XML (schema 2016-06): what the header of an OME-TIFF says of its images.

UTF-8, as OME prescribes, and no character references: Bio-Formats mangles `&#181;`, and then takes the file for a plain
TIFF. Without dates and random identifiers, so that the same image gives the same bytes.
"""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np

from unettile import __version__
from unettile.images.canvas import Canvas, Layer
from unettile.images.colours import Colour

NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
METADATA_NAMESPACE = "unettile/metadata"
"""Of the annotation that holds the canvas's metadata, JSON."""

_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_TYPES = {"float32": "float"}  # where OME's name of a pixel type is not numpy's


def write_omexml(canvas: Canvas) -> str:
    """Return the OME-XML of a canvas; layer after layer is an image, channel after channel a page of the file.

    Names and colours of class numbers become map annotations, the metadata a comment annotation.
    """
    root = ElementTree.Element(
        "OME",
        {
            "xmlns": NAMESPACE,
            "xmlns:xsi": _XSI,
            "xsi:schemaLocation": f"{NAMESPACE} {NAMESPACE}/ome.xsd",
            "Creator": f"unettile {__version__}",
        },
    )
    annotations = ElementTree.Element("StructuredAnnotations")
    metadata = _annotation(annotations, "CommentAnnotation", METADATA_NAMESPACE)
    ElementTree.SubElement(metadata, "Value").text = canvas.description
    page = 0
    for number, layer in enumerate(canvas.layers):
        image = ElementTree.SubElement(root, "Image", ID=f"Image:{number}", Name=layer.name)
        _pixels(image, canvas, layer, number, page)
        references = [metadata.attrib["ID"]]
        if layer.channels == 1:
            references += [_map(annotations, "names", dict(enumerate(layer.names)))] if layer.names else []
            colours = {index: _hex(colour) for index, colour in enumerate(layer.colours)}
            references += [_map(annotations, "colours", colours)] if colours else []
        for reference in references:
            ElementTree.SubElement(image, "AnnotationRef", ID=reference)
        page += layer.channels * canvas.images
    root.append(annotations)
    ElementTree.indent(root, " ")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}'


def _pixels(image: ElementTree.Element, canvas: Canvas, layer: Layer, number: int, page: int) -> None:
    dtype = canvas.dtype_of(layer)
    sizes = {
        **dict(zip("YX", canvas.shape, strict=True)),
        "C": layer.channels,
        **dict(zip("TZ", canvas.stack, strict=True)),
    }
    attributes = {
        "ID": f"Pixels:{number}",
        "DimensionOrder": "XYCZT",
        "Type": _TYPES.get(dtype.name, dtype.name),
        "SignificantBits": str(8 * dtype.itemsize),
        "Interleaved": "false",
        "BigEndian": "false",
        **{f"Size{axis}": str(size) for axis, size in sizes.items()},
    }
    if canvas.pixel_size_um is not None:
        for axis, size in zip("YX", canvas.pixel_size_um, strict=True):
            attributes |= {f"PhysicalSize{axis}": repr(float(size)), f"PhysicalSize{axis}Unit": "µm"}
    steps = canvas.steps
    if steps.z_um is not None:
        attributes |= {"PhysicalSizeZ": repr(steps.z_um), "PhysicalSizeZUnit": "µm"}
    if steps.time_s is not None:
        attributes |= {"TimeIncrement": repr(steps.time_s), "TimeIncrementUnit": "s"}
    pixels = ElementTree.SubElement(image, "Pixels", attributes)
    for channel in range(layer.channels):
        described = {"ID": f"Channel:{number}:{channel}", "SamplesPerPixel": "1"}
        if layer.channels > 1 and layer.names:
            described["Name"] = _printable(layer.names[channel])
        if layer.channels > 1 and layer.colours:
            described["Color"] = str(_rgba(layer.colours[channel]))
        if layer.channels == 1:
            described["Name"] = layer.name
        ElementTree.SubElement(pixels, "Channel", described)
    times, depths = canvas.stack
    places = [(t, z, c) for t in range(times) for z in range(depths) for c in range(layer.channels)]
    for number, (t, z, c) in enumerate(places):
        place = {"IFD": str(page + number), "FirstC": str(c), "FirstZ": str(z), "FirstT": str(t), "PlaneCount": "1"}
        ElementTree.SubElement(pixels, "TiffData", place)
    if canvas.offset_um is not None:
        offset = {f"Position{axis}": repr(float(um)) for axis, um in zip("YX", canvas.offset_um, strict=True)}
        units = {f"Position{axis}Unit": "µm" for axis in "YX"}
        for t, z, c in places:
            ElementTree.SubElement(pixels, "Plane", {"TheC": str(c), "TheZ": str(z), "TheT": str(t), **offset, **units})


def _map(annotations: ElementTree.Element, what: str, values: dict[int, str]) -> str:
    """Add a map from numbers to texts; return its ID."""
    annotation = _annotation(annotations, "MapAnnotation", f"unettile/class-{what}")
    value = ElementTree.SubElement(annotation, "Value")
    for key, text in values.items():
        ElementTree.SubElement(value, "M", K=str(key)).text = _printable(text)
    return annotation.attrib["ID"]


def _annotation(annotations: ElementTree.Element, kind: str, namespace: str) -> ElementTree.Element:
    return ElementTree.SubElement(annotations, kind, ID=f"Annotation:{len(annotations)}", Namespace=namespace)


def _printable(text: str) -> str:
    """Return a text without the characters that XML cannot hold."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _rgba(colour: Colour) -> int:
    """Return a colour as OME writes it, a signed 32-bit number; black, which would hide a channel, as white."""
    red, green, blue = colour if any(colour) else (255, 255, 255)
    return int(np.array([red << 24 | green << 16 | blue << 8 | 255], np.uint32).view(np.int32)[0])
