"""Tables of docs/benchmarks.md: one function a bench, from its result to Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

Result = dict[str, Any]
Ratio = dict[str, float]


def ceiling(result: Result) -> str:
    rows = [
        (
            row["width"],
            row["precision"],
            f"{row['edge']:,}²",
            spread(row["of_ceiling"]),
            f"{row['mflop_per_pixel']:g}",
            " / ".join(f"{row['gflop_per_s'][name]:,.0f}" for name in ("convolution", "matrix product")),
            row["rounds"],
        )
        for row in result["rows"]
    ]
    head = "channels|precision|image, px|of the ceiling|MFLOP a pixel|GFLOP/s, convolution / matrix product|rounds"
    return said(where(result | {"case": {}}), table(head, rows), "![part of the ceiling](benchmarks-ceiling.svg)")


def gpu(result: Result) -> str:
    ways = {way: None for row in result["rows"] for way in row["network_alone_of_ceiling"]}
    rows = [
        (
            row["width"],
            row["precision"],
            f"{row['edge']:,}²",
            spread(row["of_ceiling"]),
            spread(row["mpx_per_s"]),
            "not known" if row["gpu_busy"] is None else f"{row['gpu_busy']:.0%}",
            *(short(row["network_alone_of_ceiling"].get(way)) for way in ways),
        )
        for row in result["rows"]
    ]
    alone = "".join(f"|network alone, {way}" for way in ways)
    return said(where(result), table(f"channels|precision|image, px|of the ceiling|Mpx/s|GPU busy{alone}", rows))


def peers(result: Result) -> str:
    """All ways, and in words those that did better than ours."""
    ours = {(row["network"], row["precision"]): row for row in result["rows"] if is_ours(row)}
    rows, faster, smaller = [], [], []
    for row in result["rows"]:
        same = ours[row["network"], row["precision"]]
        peak = row["peak_mib"]["median"]
        part = peak / same["peak_mib"]["median"]
        name = f"{row['way']} ({row['network']}, {row['precision']}: {{}})"
        if row["time_over_ours_same_precision"]["median"] < 1:
            faster.append(name.format(short(row["time_over_ours_same_precision"]["median"])))
        if part < 1:
            smaller.append(name.format(short(part)))
        rows.append(
            (
                f"**{row['way']}**" if is_ours(row) else row["way"],
                row["network"],
                row["precision"],
                spread(row["time_over_ours_same_precision"]),
                spread(row["time_over_ours"]),
                f"{peak:,.0f}",
                short(part),
                f"{row['largest_difference']:.2g}",
                f"{row['changed_share']:.2%}" if row["changed_share"] >= 5e-5 else f"{row['changed_share']:.1g}",
            )
        )
    case = result["case"]
    size = f"{case['edge']:,} × {case['edge']:,} px"
    losses = "\n".join(
        (
            f"- In less time than ours in the same precision: {', '.join(faster) or 'none'}.",
            f"- With less memory than ours in the same precision: {', '.join(smaller) or 'none'}.",
        )
    )
    head = (
        "way|network|precision|time over ours|over ours in bf16|peak of memory, MiB|over ours"
        "|largest difference of a probability|classes changed"
    )
    compared = f"differences at {case['compared_edge']:,} px"
    return said(
        f"{where(result)}; {case['model']}; {size}, {compared}",
        table(head, rows),
        losses,
        "![time over ours](benchmarks-peers.svg)",
    )


def scaling(result: Result) -> str:
    case = result["case"]
    sizes = [
        (
            f"{row['edge']:,}²",
            f"{row['mpx']:,.0f}",
            spread(row["time_per_pixel_over_first"]),
            f"{row['peak_mib']['median']:,.0f}",
        )
        for row in result["sizes"]
    ]
    threads = [(count, spread(ratio)) for count, ratio in result["one_thread_over"].items()]
    shards = [
        (row["count"], spread(row["sum_over_whole"]), spread(row["longest_over_whole"])) for row in result["shards"]
    ]
    return said(
        where(result),
        table("image, px|Mpx|time for a pixel over that of the first|peak of memory, MiB", sizes),
        f"At {case['threads_and_shards_at']:,}² px:",
        table("threads|time with one over that", threads),
        table("shards, one after another|time of all over that of the whole|of the longest", shards),
    )


def startup(result: Result) -> str:
    names = {"--help": "`unettile --help`", "segment": f"`unettile segment`, {result['case']['edge']}² px"}
    rows = [(names[name], spread(ratio)) for name, ratio in result["over_import_torch"].items()]
    return said(where(result), table('whole process|time over `python -c "import torch"`', rows))


def memory(result: Result) -> str:
    rows = [(f"{int(edge):,} × {int(edge):,} px", f"{one['peak_mib']:,} MiB") for edge, one in result["slides"].items()]
    ratio = spread(result["without_over_with_recall"])
    return said(
        where(result),
        table("slide|resident memory at its peak, nuclei-valid, CPU", rows),
        f"The blocks of the first slide took {ratio} times as long when equal windows were not remembered.",
    )


def tiling(result: Result) -> str:
    rows = [
        ("the bare network on the same windows", spread(result["file_over_network"])),
        ("the bare network, torch's default layout, float32", spread(result["file_over_plain"])),
    ]
    case = result["case"]
    return said(
        f"{where(result)}; {case['edge']:,}² px, {case['precision']}",
        table("|pixels a second of `segment`, file to file, over its", rows),
    )


def rows(result: Result) -> str:
    """Rows over tiles, a row of the table for each network and precision."""
    names = {"nuclei-valid": "nuclei-valid", "paper": "the U-Net paper's, 64 channels, random parameters"}
    lines = [
        (
            f"{names[one['network']]}, {one['edge']:,}² px",
            one["precision"],
            spread(one["rows_over_tiles"]),
            short(one["rows_mpx_per_second"]),
        )
        for one in result["figures"]
    ]
    return said(where(result), table("network|precision|pixels a second by rows over by tiles|Mpx/s by rows", lines))


def weights(result: Result) -> str:
    """Ours beside one transform, map by map; then the other ways, over all maps."""
    found = {(row["map"], row["threads"], row["way"]): row for row in result["rows"]}
    most = max(row["threads"] for row in result["rows"])
    rows, others = [], {}
    for row in result["rows"]:
        name, ours = row["map"], found[row["map"], 1, "unettile"]
        if row["way"] not in ("unettile", "edt"):
            others.setdefault(row["way"], []).append(
                (row["time_over_unettile"]["median"], row["mib"] / ours["mib"], name)
            )
        if row is not ours:
            continue
        speeds = [found[name, count, "unettile"]["mpx_per_s"]["median"] for count in (most, 1)]
        edt = [found.get((name, count, "edt"), {}).get("time_over_unettile") for count in (1, most)]
        rows.append((name, f"{row['cells']:,}", *map(spread, edt), short(speeds[0] / speeds[1])))
    slower = []
    for way, measured in others.items():
        times, sizes, names = zip(*measured, strict=True)
        slower.append((way, between(times), between(sizes), ", ".join(names)))
    error = max(row["largest_error"] for row in result["rows"] if row["way"] == "unettile" and row["threads"] == 1)
    beside = "`edt` / ours"
    return said(
        where(result),
        table(f"labels|cells|{beside}, 1 thread|{beside}, {most} threads|ours, {most} threads over 1", rows),
        table("way, 1 thread|time over ours|memory over ours|maps", slower),
        f"The largest error of ours against the definition is {error:.2g}.",
    )


def writing(result: Result) -> str:
    edge = result["case"]["edge"]
    sizes = sorted({int(name.split()[0]) for name in result["peak_mib"]})
    rows = []
    for name, ratio in result["read_over"].items():
        times = {"median": 1 / ratio["median"], "lowest": 1 / ratio["highest"], "highest": 1 / ratio["lowest"]}
        peaks = [result["peak_mib"].get(f"{size} {name}") for size in sizes]
        shown = "the largest resolution alone, by tifffile" if name == "tifffile" else f"`{name}`"
        rows.append((shown, spread(times), *("" if peak is None else f"{peak:,.0f}" for peak in peaks)))
    peak_heads = "".join(f"|peak of memory at {size:,}², MiB" for size in sizes)
    return said(
        f"{where(result)}; {edge:,}² px",
        table(f"written|time over that of reading the blocks back{peak_heads}", rows),
    )


def training(result: Result) -> str:
    case = result["case"]
    rows = [
        ("training steps a second over those on a batch in memory", spread(result["loader_over_network"])),
        ("the network's part of the processor time", spread(result["cpu_network_over_all"])),
    ]
    size = (
        f"windows of {case['window']} px, batches of {case['batch']}, {case['precision']}, workers: {case['workers']}"
    )
    return said(f"{where(result)}; {size}", table("|ratio", rows))


def recipes(result: Result) -> str:
    trainings = result["trainings"]
    names = list(dict.fromkeys(row["recipe"] for row in trainings))
    scores = {(row["task"], row["recipe"]): row for row in trainings}
    rows = []
    for task in dict.fromkeys(row["task"] for row in trainings):
        first = next(row for row in trainings if row["task"] == task)
        found = [scores.get((task, name)) for name in names]
        cells = ["–" if row is None else f"{row['score']:.3f}" for row in found]
        rows.append((task, str(first["images"]), str(first["judged"]), first["measure"], *cells))
    taught = [row for row in trainings if row["steps"]]
    steps, seconds = (sorted(row[key] for row in taught) for key in ("steps", "cpu_seconds"))
    each = f"{taught[0]['minutes']:g} minutes each"
    told = f"{each}, {steps[0]} to {steps[-1]} steps, {seconds[0]} to {seconds[-1]} s of processor time"
    heads = "".join(f"|{name}" for name in names)
    return said(f"{where(result)}; {told}", table(f"task|images|judged by|measure{heads}", rows))


def abroad(result: Result) -> str:
    rows = [
        (
            ", ".join(filter(None, (row["source"], row["kind"]))),
            str(row["judged"]),
            *(f"{row[name]:.3f}" for name in ("ap_50", "mean_ap", "dice_1")),
        )
        for row in result["groups"]
    ]
    begun = "ImageNet's" if result["encoder"] else "random"
    many = "" if result["processes"] == 1 else f" by {result['processes']} processes"
    told = f"{result['minutes']:g} minutes each{many}, from {begun} parameters"
    return said(f"{where(result)}; {told}", table("source left out|images|AP at 0.5|mean AP|Dice", rows))


def held(result: Result) -> str:
    models = list(dict.fromkeys(row["model"] for row in result["groups"]))
    scores = {(row["group"], row["model"]): row for row in result["groups"]}
    rows = []
    for group in dict.fromkeys(row["group"] for row in result["groups"]):
        found = [scores[group, model] for model in models]
        cells = [
            cell for row in found for cell in (f"{row['ap_50']:.3f}, {row['mean_ap']:.3f}", f"{row['dice_1']:.2f}")
        ]
        rows.append((group, str(found[0]["judged"]), *cells))
    heads = "".join(f"|{model}: AP at 0.5, mean AP|Dice" for model in models)
    sizes = "sizes estimated" if result["estimated"] else "true sizes given"
    return said(f"{where(result)}; {sizes}", table(f"images that were held out|number{heads}", rows))


def objects(result: Result) -> str:
    stages = {name: None for row in result["results"] for name in row["mpx_per_processor_s"]}
    rows = [
        (
            f"{row['edge']:,}²",
            f"{row['objects']:,}",
            "yes" if row["split"] else "no",
            *(short(row["mpx_per_processor_s"].get(name)) for name in stages),
            short(row["mpx_per_processor_s_all"]),
            f"{row['peak_mib']:,}",
        )
        for row in result["results"]
    ]
    heads = "".join(f"|{name}" for name in stages)
    return said(
        f"{where(result)}; Mpx a second of processor time", table(f"mask, px|objects|split{heads}|all|peak, MiB", rows)
    )


TABLES: dict[str, Callable[[Result], str]] = {
    function.__name__: function
    for function in (
        ceiling,
        peers,
        scaling,
        startup,
        memory,
        tiling,
        rows,
        weights,
        training,
        recipes,
        held,
        abroad,
        writing,
        objects,
        gpu,
    )
}


def is_ours(row: Result) -> bool:
    return str(row["way"]) == "unettile"


def where(result: Result) -> str:
    """Name the machine and how often the bench ran."""
    found, case = result["machine"], result.get("case", {})
    names = [found.get("gpu", found["processor"]), f"{found['threads']} thread{'s' if found['threads'] > 1 else ''}"]
    if found.get("torch"):
        names.append(f"torch {found['torch']}")
    rounds = case.get("rounds", case.get("repeats"))
    counted = "" if rounds is None else f"; rounds: {rounds}"
    return f"{', '.join(names)}{counted}"


def spread(ratio: Ratio | None) -> str:
    """Write the median, and the lowest and the highest where there are any."""
    if ratio is None:
        return ""
    median, lowest, highest = (short(ratio[name]) for name in ("median", "lowest", "highest"))
    return median if lowest == highest else f"{median} ({lowest}–{highest})"


def short(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 or value == 0 else f"{value:#.2g}" if value < 1 else f"{value:.3g}"


def between(values: Sequence[float]) -> str:
    """Write the lowest and the highest, or the only one."""
    return "–".join(dict.fromkeys((short(min(values)), short(max(values)))))


def table(head: str, rows: Iterable[Sequence[object]]) -> str:
    heads = head.split("|")
    lines = [heads, ["---"] * len(heads), *([str(cell) for cell in row] for row in rows)]
    assert all(len(line) == len(heads) for line in lines), head
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def said(first: str, *parts: str) -> str:
    return "\n\n".join((f"{first}.", *parts))
