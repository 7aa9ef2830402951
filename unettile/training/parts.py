"""The tables of a recipe: each a frozen dataclass, its fields the table's keys, their values the defaults."""

from __future__ import annotations

from dataclasses import dataclass, field

from unettile.errors import InputError
from unettile.images.colours import Colour
from unettile.labels import BORDER


@dataclass(frozen=True)
class ImagePart:
    """How images are scaled: percentiles become 0 and 1, or -1 and 1 if `signed`; `grey_to_rgb` repeats grey images.

    `pixel_size_um` is the edge of their pixels, µm, for the model's card; 0 is what all of them state, if they agree.
    """

    low_percentile: float = 1.0
    high_percentile: float = 99.8
    per_channel: bool = False
    signed: bool = False
    grey_to_rgb: bool = False
    pixel_size_um: float = 0.0


@dataclass(frozen=True)
class LabelPart:
    """What labels mean: `classes` (the value is the class) or objects, which are class 1, whatever their number.

    Objects are `instances`, each of an id > 0 of its own, or the connected `components` of all that is above 0. Where
    `names` has several of instances, these are kinds of objects, classes of their own; labels say which is of which.
    `values` has the number that stands for each name in label images, 0 and 255 say; without it that is 0, 1, 2, …
    `colors` has one (r, g, b) for each name, for masks and for label images that are RGB pictures. `gap` is the
    background, in px of the network's input, that is carved between touching instances; `border` > 0 carves as much,
    and makes a last class, "border", of all background up to so wide between two instances; half is taken from each, so
    an odd width is one px more. Pixels of the value `ignore` do not count; -1 is none. `depth` adds one output to the
    network: how far inside its object a pixel lies, from 0 at its edge to 1 in its middle, by which touching ones part.
    `diameter` > 0 brings each image, to train or to validate on, to objects of so many px across first: the median of
    its own objects, each counted by its area; `auto` takes the median over all images, if it is 16 to 32 px, or the
    nearer of these. 0 leaves images as they are.
    """

    kind: str = "instances"
    names: tuple[str, ...] = ("background", "object")
    values: tuple[int, ...] = ()
    colors: tuple[Colour, ...] = ()
    gap: int = 2
    border: int = 0
    ignore: int = -1
    depth: bool = False
    diameter: float | str = 0.0

    @property
    def are_objects(self) -> bool:
        return self.kind != "classes"

    @property
    def kinds(self) -> int:
        """How many kinds of objects are told apart, the classes 1, 2, …; 0 where all are alike, or labels are classes.

        >>> LabelPart().kinds, LabelPart(names=("background", "tumor", "stroma")).kinds
        (0, 2)
        """
        several = self.kind == "instances" and len(self.names) > 2
        return len(self.names) - 1 if several else 0

    @property
    def class_names(self) -> tuple[str, ...]:
        return (*self.names, BORDER) if self.border else self.names


@dataclass(frozen=True)
class SplitPart:
    """The parts of the images that are held out: to validate on after each epoch, and to test on once at the end."""

    validation: float = 0.1
    test: float = 0.0


@dataclass(frozen=True)
class SourcePart:
    """One of several sources of images: the table `[sources.NAME]` of a recipe that has some.

    `images` and `labels` are directories below those that the command gives. `weight` is how often its images are drawn
    against those of other sources. `held_out` has patterns of names of images that are never trained on, whole groups
    that look alike; `fraction` holds out so many besides, chosen by their names. Of these, `validate` images validate
    after each epoch, chosen by their names; 0 for all.
    """

    images: str
    labels: str
    weight: float = 1.0
    held_out: tuple[str, ...] = ()
    fraction: float = 0.0
    validate: int = 0

    def __post_init__(self) -> None:
        if not self.weight > 0 or not 0 <= self.fraction < 1 or self.validate < 0:
            raise InputError(
                f"recipe: sources need weight > 0, 0 <= fraction < 1 and validate >= 0, got {self.weight:g}, "
                f"{self.fraction:g} and {self.validate}"
            )


@dataclass(frozen=True)
class SamplePart:
    """Which images and places are seen how often.

    `area`: 0 draws every image alike, 1 in proportion to its pixels, 0.5 between. `kinds`: 0 draws grey and colour
    images as they come, 1 both equally often, 0.5 between. `weights` multiplies the odds of images whose names match a
    pattern, `{"he_*" = 3.0}` say. `balance` = `classes` centres as many samples on one class as on another.
    """

    area: float = 0.5
    kinds: float = 0.0
    balance: str = "none"
    weights: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class AugmentPart:
    """Random changes of a sample; all that moves pixels is one resampling.

    `zoom` is the range of magnification; `elastic_std` the standard deviation (px) of displacements on a coarse grid
    of `elastic_grid` points a side; `contrast`, `brightness` and `gamma` are half-widths around no change;
    `color`, `noise` (of the range) and `blur` (σ, px) are strengths; `invert`, `grey` and `dim` are probabilities:
    `dim` takes up to 80 % of the range away, as where debris is brighter than every cell. `stain` is how much the
    stains of histology, into which coloured images are unmixed, change in amount and hue; `brown` is the probability
    that such an image becomes one of immunohistochemistry, its nuclei or what lies about them brown; `dye` the
    probability that nuclei which shine on a dark ground become a picture of stained tissue, before its stains change;
    `jpeg` that of a lossy compression. `plain` is the share of the samples whose pixels stay what they are in the file:
    these are mirrored and turned by right angles alone.
    """

    flip: bool = True
    rotate: bool = True
    zoom: tuple[float, float] = (0.7, 1.4)
    elastic_std: float = 10.0
    elastic_grid: int = 3
    contrast: float = 0.3
    brightness: float = 0.15
    gamma: float = 0.3
    color: float = 0.0
    noise: float = 0.0
    blur: float = 0.0
    invert: float = 0.0
    grey: float = 0.0
    dim: float = 0.0
    stain: float = 0.0
    brown: float = 0.0
    dye: float = 0.0
    jpeg: float = 0.0
    plain: float = 0.0


@dataclass(frozen=True)
class LossPart:
    """The sum of `cross_entropy`, `dice`, `focal` and `depth`, each times its figure here; 0 leaves a term out.

    Cross entropy and focal loss are weighted by the weight map: `w0` and `sigma` (px) of the border term, class weights
    `balanced` or `none`. `depth` is the cross entropy of the output that `labels.depth` asks for, if it does. A side
    output of a network that has some counts `side_outputs` times the main one.
    """

    cross_entropy: float = 1.0
    dice: float = 0.0
    focal: float = 0.0
    focal_gamma: float = 2.0
    depth: float = 1.0
    side_outputs: float = 1.0
    w0: float = 10.0
    sigma: float = 5.0
    class_weights: str = "none"


@dataclass(frozen=True)
class OptimizerPart:
    """`adam`, `adamw` or `sgd`, with a linear warm-up; then the rate falls as `schedule` says.

    `cosine`: to zero over the whole run; `constant`: not at all; `plateau`: by `factor` each time the validation loss
    has not improved for `patience` epochs. `clip_norm` = 0 does not clip gradients. The rate of an encoder that may
    begin with ImageNet parameters is `encoder` times that of the rest.
    """

    name: str = "adamw"
    learning_rate: float = 1e-3
    encoder: float = 1.0
    weight_decay: float = 1e-4
    momentum: float = 0.9
    warmup_steps: int = 100
    clip_norm: float = 1.0
    schedule: str = "cosine"
    patience: int = 3
    factor: float = 0.5


@dataclass(frozen=True)
class RunPart:
    """How long, how much at once, and what decides which epoch was the best.

    That is `iou`, `ap` (objects), `mpq` (kinds of objects) or `loss`.

    `steps_per_epoch` = 0 takes as many as it needs to draw a sample for each training image, at least 8. `accumulate`
    splits a batch into so many passes. `ema` > 0 validates and keeps the moving average of parameters with this decay.
    `last` keeps the last epoch instead of the best, which is luck where few images validate and the rate falls to 0.
    `patience` > 0 stops after so many epochs without a better one. At the end `calibrate` shifts the background's logit
    to where the validation images score best, for all pixels alike: border weights make background likelier than it is.
    """

    epochs: int = 50
    steps_per_epoch: int = 100
    batch: int = 8
    accumulate: int = 1
    output_edge: int = 196
    ema: float = 0.0
    select: str = "iou"
    last: bool = False
    patience: int = 0
    calibrate: bool = False
    seed: int = 0


@dataclass(frozen=True)
class CardPart:
    """What the model's card says besides its scores: where the data come from, the model's licence, its limits."""

    data: str = ""
    licence: str = ""
    limits: str = ""
