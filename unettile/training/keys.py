"""Keys: what every key of a recipe is measured in, how large it may be, and what it does.

This one declaration refuses what lies outside, before anything is made of it, and gives the table of docs/recipes.md.
The ends are far beyond what training uses, and near what a machine can hold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from unettile.typed import said


@dataclass(frozen=True)
class Key:
    """A key of a recipe.

    Args:
        name: with its table.
        effect: what it does.
        unit: of its figure, "" for none.
        low, high: ends of its range, or of each figure in its list or table; None where it is no figure.
        above, below: the low, or the high end lies outside.
        choices: the texts that it may be; empty where it is no choice.
        longest: letters of a text, or entries of a list or table.
    """

    name: str
    effect: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    above: bool = False
    below: bool = False
    choices: tuple[str, ...] = ()
    longest: int = 256

    @property
    def need(self) -> str:
        """What it may be, in words.

        >>> Key("loss.sigma", "", "px", 0, 100, above=True).need
        'more than 0 and at most 100'
        """
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.low is None or self.high is None:
            return ""
        low, high = _figure(self.low), _figure(self.high)
        return (
            f"{'more than' if self.above else 'at least'} {low} and {'less than' if self.below else 'at most'} {high}"
        )

    def check(self, value: object) -> None:
        """Refuse a value outside.

        Raises:
            ValueError: says what was got and what is needed.
        """
        if self.choices and value not in self.choices:
            raise ValueError(f"{self.name} = {said(value)} is not known; need {self.need}")
        if isinstance(value, str | tuple | dict) and len(value) > self.longest:
            what = "letters" if isinstance(value, str) else "entries"
            raise ValueError(f"{self.name} has {len(value)} {what}; need at most {self.longest}")
        if any(_is_odd(letter) for text in _texts(value) for letter in text):
            raise ValueError(f"{self.name} = {said(value)} has characters that are no text; need a plain text")
        for one in _figures(value):
            if self.low is not None and self.high is not None and not self._holds(one):
                raise ValueError(f"{self.name} = {said(value)} is out of range; need {self.need}")

    def _holds(self, figure: float) -> bool:
        assert self.low is not None and self.high is not None
        fits_low = self.low < figure if self.above else self.low <= figure
        return fits_low and (figure < self.high if self.below else figure <= self.high)


def _is_odd(letter: str) -> bool:
    """Whether it is a control character, or half of one that UTF-8 cannot hold."""
    return (letter < " " and letter not in "\n\t") or "\ud800" <= letter <= "\udfff"


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    items = (*value, *value.values()) if isinstance(value, dict) else value if isinstance(value, tuple) else ()
    return [text for item in items for text in _texts(item)]


def _figures(value: object) -> list[float]:
    if isinstance(value, bool):
        return []
    if isinstance(value, int | float):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else ()
    return [figure for item in items for figure in _figures(item)]


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) < 1e12 and value == math.floor(value) else f"{value:g}"


def _share(name: str, effect: str, *, below: bool = False) -> Key:
    """A part of one, or a probability."""
    return Key(name, effect, "share", 0, 1, below=below)


_TEXT = 10_000  # letters of a card
_TERM = 1000  # what a term of the loss may count
_MANY = 100_000  # epochs

KEYS = (
    Key("network.name", "which network: see networks.md", longest=64),
    Key("network.encoder_parameters", "file of ImageNet parameters that the encoder begins with", longest=4096),
    Key("network.start", "a model of the same network that all of it begins with, by name or file", longest=4096),
    Key("images.low_percentile", "of an image's intensities; becomes 0", "%", 0, 100, below=True),
    Key("images.high_percentile", "of an image's intensities; becomes 1", "%", 0, 100, above=True),
    Key("images.per_channel", "each channel is scaled by its own percentiles"),
    Key("images.signed", "the low percentile becomes -1 instead of 0"),
    Key("images.grey_to_rgb", "grey images are repeated for a network of three channels"),
    Key("images.pixel_size_um", "edge of the images' pixels, for the card; 0 for what all of them state", "µm", 0, 1e4),
    Key(
        "labels.kind",
        "objects with an id each, connected parts of what is above 0, or classes",
        choices=("instances", "components", "classes"),
    ),
    Key("labels.names", "of the classes, background first; of instances, several after it are kinds", longest=256),
    Key("labels.values", "number that stands for each name in label images; none for 0, 1, 2, …", "", 0, 2**32 - 1),
    Key("labels.colors", "(r, g, b) for each name; of masks, and of labels that are pictures", "", 0, 255),
    Key("labels.gap", "background that is carved between touching objects", "px", 0, 64),
    Key("labels.border", "a class of its own for background between two objects, up to so wide", "px", 0, 64),
    Key("labels.ignore", "number of pixels that do not count; -1 for none", "", -1, 2**32 - 1),
    Key("labels.depth", "the network also learns how far inside its object a pixel lies"),
    Key("labels.diameter", 'objects are brought to this size; 0 leaves them, "auto" finds it', "px", 0, 1024),
    _share("split.validation", "of the images; validates after each epoch", below=True),
    _share("split.test", "of the images; scored once, at the end", below=True),
    Key("sources.NAME.images", "directory of images below the one that is given", longest=4096),
    Key("sources.NAME.labels", "directory of labels below the one that is given", longest=4096),
    Key("sources.NAME.weight", "how often it is drawn from, against other sources", "", 0, 1e6, above=True),
    Key("sources.NAME.held_out", "patterns of names of images that are never trained on", longest=10_000),
    _share("sources.NAME.fraction", "of its images that is held out besides", below=True),
    Key("sources.NAME.validate", "held-out images that validate; 0 for all", "images", 0, 1e6),
    _share("samples.area", "0 draws images alike, 1 in proportion to their pixels"),
    _share("samples.kinds", "0 draws grey and coloured images as they come, 1 as often as each other"),
    Key("samples.balance", "`classes` centres as many samples on one class as on another", choices=("none", "classes")),
    Key("samples.weights", "how often images are drawn, by patterns of their names", "", 0, 1e6, above=True),
    Key("augment.flip", "mirror"),
    Key("augment.rotate", "turn by any angle"),
    Key("augment.zoom", "smallest and largest magnification", "times", 0.05, 20),
    Key("augment.elastic_std", "of the displacements on a coarse grid; 0 for none", "px", 0, 200),
    Key("augment.elastic_grid", "points a side of that grid", "points", 2, 64),
    _share("augment.contrast", "contrast is multiplied by up to so much more or less"),
    _share("augment.brightness", "of the range of intensities; added or taken away"),
    Key("augment.gamma", "the exponent's logarithm goes so far up and down", "", 0, 3),
    _share("augment.color", "by how much channels change alone"),
    _share("augment.noise", "standard deviation, of the range of intensities"),
    Key("augment.blur", "σ of the strongest blur", "px", 0, 50),
    _share("augment.invert", "probability of a negative"),
    _share("augment.grey", "probability that colour is taken away"),
    _share("augment.dim", "probability that up to 80 % of the range is taken away"),
    _share("augment.stain", "by how much the stains of histology change"),
    _share("augment.brown", "probability that a stain becomes brown, as in immunohistochemistry"),
    _share("augment.dye", "probability that fluorescence becomes a picture of stained tissue"),
    _share("augment.jpeg", "probability of a lossy compression"),
    _share("augment.plain", "of the samples; these are only mirrored and turned by right angles"),
    Key("loss.cross_entropy", "how much the term counts", "", 0, _TERM),
    Key("loss.dice", "how much the term counts", "", 0, _TERM),
    Key("loss.focal", "how much the term counts", "", 0, _TERM),
    Key("loss.focal_gamma", "how little easy pixels count in the focal loss", "", 0, 20),
    Key("loss.depth", "how much the output that `labels.depth` asks for counts", "", 0, _TERM),
    Key("loss.side_outputs", "how much a side output counts, against the main one", "", 0, _TERM),
    Key("loss.w0", "largest weight between two objects; 0 for no weight map", "", 0, 10_000),
    Key("loss.sigma", "how far from two objects weights reach", "px", 0, 100, above=True),
    Key("loss.class_weights", "whether rare classes count more", choices=("balanced", "none")),
    Key("optimizer.name", "how parameters are changed", choices=("adamw", "adam", "sgd")),
    Key("optimizer.learning_rate", "after the warm-up", "", 0, 100, above=True),
    Key("optimizer.encoder", "rate of a pretrained encoder, against that of the rest", "times", 0, 100, above=True),
    Key("optimizer.weight_decay", "by how much parameters shrink", "", 0, 10),
    _share("optimizer.momentum", "of SGD", below=True),
    Key("optimizer.warmup_steps", "over which the rate rises to its full size", "steps", 0, 1e6),
    Key("optimizer.clip_norm", "longest gradient; 0 for any", "", 0, 1e6),
    Key("optimizer.schedule", "how the rate falls", choices=("cosine", "constant", "plateau")),
    Key("optimizer.patience", "without a better loss, after which `plateau` lowers the rate", "epochs", 1, _MANY),
    Key("optimizer.factor", "by which it does", "times", 0, 1, above=True, below=True),
    Key("run.epochs", "how often validation images are scored", "epochs", 1, _MANY),
    Key("run.steps_per_epoch", "0 takes as many as draw a sample for each image", "steps", 0, 1e6),
    Key("run.batch", "samples of a step", "samples", 1, 4096),
    Key("run.accumulate", "passes into which a batch is split", "passes", 1, 4096),
    Key("run.output_edge", "of a sample's labels", "px", 1, 4096),
    _share("run.ema", "decay of the moving average of the parameters; 0 for none", below=True),
    Key("run.select", "what tells which epoch is the best", choices=("iou", "ap", "mpq", "loss")),
    Key("run.last", "the model is that of the last epoch, whichever is the best"),
    Key("run.patience", "epochs without a better one, after which training stops; 0 for never", "epochs", 0, _MANY),
    Key("run.calibrate", "at the end the background's logit is shifted to where masks score best"),
    Key("run.seed", "of all that is drawn", "", 0, 2**63 - 1),
    _share("objects.threshold", "probability from which a pixel is foreground; 0 takes the likeliest class"),
    Key("objects.fill_holes", "holes up to this size are filled", "px", 0, 1000),
    Key("objects.split", "objects that touch are parted"),
    Key("objects.own_depth", "by the model's own depth, if it has one"),
    Key("objects.neck", "they are one if the pass between them is deeper than this part of them", "share", 0, 1, True),
    Key("objects.rise", "they are one if the lower rises less than this above the pass", "px or grey", 0, 65_535),
    Key("objects.max_object", "largest object that is parted by distances", "px", 1, 2048),
    Key("objects.min_size", "smaller objects are dropped", "px", 0, 1e9),
    Key("objects.close_gaps", "background up to this width between two objects becomes theirs", "px", 0, 16),
    _share("objects.rim", "background around an object that is so probable an object's becomes its; 0 for none"),
    Key("objects.rim_width", "up to so far from the object", "px", 1, 16),
    Key("objects.merge_classes", "an object may have pixels of several classes"),
    Key("card.data", "where the data come from", longest=_TEXT),
    Key("card.licence", "of the model", longest=_TEXT),
    Key("card.limits", "of the model", longest=_TEXT),
)

MOST_SOURCES = 1000
LONGEST_NAME = 200  # letters of a class
WIDEST_WINDOW = 16_384
"""px of an image that a sample may be made of, on each side: its edge at the smallest zoom."""
