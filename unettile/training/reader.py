"""Reading pairs by region: small images are decoded once and kept, large ones stay on disk."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.fingerprint import Fingerprint
from unettile.images.orientation import describe_turn
from unettile.images.plain import PlainSlide
from unettile.images.slide import Slide, open_labels, open_slide
from unettile.images.zoomed import ZoomedLabels, zoomed_image
from unettile.metrics.objects import connected_components
from unettile.training.kinds import ObjectKinds, read_kinds
from unettile.training.pairs import Pair
from unettile.training.parts import LabelPart
from unettile.training.targets import read_ids

HELD_BYTES = 2**26  # an image that takes less once decoded is held whole
CACHE_BYTES = 3 * 2**30  # of held images in one process; what was used least lately is read again when needed
OPEN_PAIRS = 2  # of large images, each with the reader's own cache of tiles


class OpenPair:
    """An image, its labels and its weight map, open for reading by region.

    Attributes:
        kinds: of the labels' objects, where the recipe tells some apart.

    Raises:
        InputError: unreadable files, labels or weights of another size than the image, or a kind that is not listed.
    """

    def __init__(self, pair: Pair, labels: LabelPart) -> None:
        self.pair = pair
        self._part = labels
        self.image: Slide = open_slide(pair.image, pair.view, filled=True)
        try:
            labels_slide = open_labels(pair.labels, pair.label_view)
        except InputError:
            self.image.close()
            raise
        self._labels: Slide | ZoomedLabels = labels_slide
        self._weights: Slide | None = open_slide(pair.weights) if pair.weights is not None else None
        self._sources = self.image, labels_slide, self._weights
        for slide in (labels_slide, self._weights):
            if slide is not None and slide.shape != self.image.shape:
                self.close()
                turned = f", {said}" if (said := describe_turn(self.image.orientation)) else ""
                raise InputError(
                    f"{slide.path} has shape {slide.shape}, its image has {self.image.shape}{turned}: they differ"
                )
        if pair.zoom != 1:
            if pair.weights is not None:
                self.close()
                raise InputError("labels.diameter makes images larger or smaller than their weight maps: leave one out")
            self.image = zoomed_image(self.image, pair.zoom)
            self._labels = ZoomedLabels(labels_slide, pair.zoom, self.image.shape)
        self._ids: NDArray[np.integer] | None = None
        self.kinds: ObjectKinds | None = None
        if labels.kinds:
            try:
                self.kinds = read_kinds(pair.labels, pair.label_view, labels.names)
            except InputError:
                self.close()
                raise

    @property
    def shape(self) -> tuple[int, int]:
        return self.image.shape

    def content(self) -> str:
        """Return a digest of what files or arrays hold, whole up to 16 MiB, sampled beyond; names are no part of it.

        What is said of kinds is, where they are told apart.
        """
        prints: list[Any] = [None if slide is None else Fingerprint.of(slide).to_dict() for slide in self._sources]
        if self.kinds is not None:
            prints.append(self.kinds.sha256)
        return hashlib.sha256(json.dumps(prints, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def nbytes(self) -> int:
        """Bytes of the pair once decoded."""
        pixels = self.shape[0] * self.shape[1]
        return pixels * (self.image.channels * self.image.dtype.itemsize + 4 + (4 if self._weights else 0))

    def hold(self) -> None:
        """Decode everything now and close the files."""
        whole = Box.of_shape(self.shape)
        self._ids = self.ids(whole)
        image, weights = self.image.read(whole), self.weights(whole)
        self.close()
        self.image = PlainSlide(self.image.path, np.ascontiguousarray(image))
        if weights is not None and self._weights is not None:
            self._weights = PlainSlide(self._weights.path, weights[..., None])

    def ids(self, box: Box) -> NDArray[np.integer]:
        """Return ids or classes (h, w) of a part of the image."""
        if self._ids is not None:
            return self._ids[box.slices]
        ids = read_ids(self._labels.read(box), self._part, str(self.pair.labels))
        if self._part.kind == "components":  # of the part, where the whole is too large to be held
            return connected_components(ids > 0)
        small = ids.size == 0 or ids.max() <= np.iinfo(np.int32).max
        return ids.astype(np.int32 if small else np.int64, copy=False)

    def weights(self, box: Box) -> NDArray[np.float32] | None:
        """Return the weight map (h, w) of a part of the image, if there is one."""
        if self._weights is None:
            return None
        return self._weights.read(box)[..., 0].astype(np.float32, copy=False)

    def close(self) -> None:
        for slide in (self.image, self._labels, self._weights):
            if slide is not None:
                slide.close()

    def __enter__(self) -> OpenPair:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class PairReader:
    """Opens pairs when they are first asked for, and keeps the latest used."""

    def __init__(self, labels: LabelPart, limit: int = CACHE_BYTES) -> None:
        self._labels = labels
        self._limit = limit
        self._bytes = 0
        self._held: OrderedDict[Pair, OpenPair] = OrderedDict()
        self._open: OrderedDict[Pair, OpenPair] = OrderedDict()

    def get(self, pair: Pair) -> OpenPair:
        """Return a pair; it is closed some time after others were asked for."""
        for kept in (self._held, self._open):
            if pair in kept:
                kept.move_to_end(pair)
                return kept[pair]
        found = OpenPair(pair, self._labels)
        if found.nbytes > HELD_BYTES:
            self._open[pair] = found
            while len(self._open) > OPEN_PAIRS:
                self._open.popitem(last=False)[1].close()
            return found
        found.hold()
        self._held[pair] = found
        self._bytes += found.nbytes
        while self._bytes > self._limit and len(self._held) > 1:
            oldest = self._held.popitem(last=False)[1]
            self._bytes -= oldest.nbytes
            oldest.close()
        return found

    def close(self) -> None:
        for kept in (self._held, self._open):
            while kept:
                kept.popitem()[1].close()
        self._bytes = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"_labels": self._labels, "_limit": self._limit}  # open files do not travel to other processes

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_labels"], state["_limit"])  # type: ignore[misc]
