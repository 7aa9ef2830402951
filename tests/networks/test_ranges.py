"""Ranges of configs: every figure of every network has one, and what lies outside is refused before it is built."""

from __future__ import annotations

from dataclasses import fields

import pytest

from unettile.errors import InputError
from unettile.networks import NETWORKS, parse_config
from unettile.networks.ranges import RANGES, check_range


def test_every_figure_of_every_preset_has_a_range_and_lies_in_it() -> None:
    for network in NETWORKS:
        for preset in network.presets.values():
            for entry in fields(preset):
                value = getattr(preset, entry.name)
                first = value[0] if isinstance(value, tuple) else value
                if not isinstance(first, bool | str):
                    assert entry.name in RANGES, f"{network.name}: {entry.name} has no range"
                    check_range(entry.name, value)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_absurd_figures_are_refused(network: object) -> None:
    name, default = network.name, network.default  # type: ignore[attr-defined]
    lists = [entry.name for entry in fields(default) if isinstance(getattr(default, entry.name), tuple)]
    absurd = [("in_channels", 10**9), ("classes", 10**6), ("in_channels", 10**400)]
    absurd += [(key, [10**9] * len(getattr(default, key))) for key in lists]
    for key, value in absurd:
        with pytest.raises(InputError, match=rf"{key}|one_logit|dropout") as refused:
            parse_config(name, {key: value})
        assert "\n" not in str(refused.value) and len(str(refused.value)) < 400
