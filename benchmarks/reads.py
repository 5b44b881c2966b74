"""``python -m benchmarks reads``: whether the model of reading windows holds.

Windows are read out of chunks of many shapes, uncompressed, with gzip and with
zstd, by h5py, zarr-python and lazyio's own readers, everything in the page
cache. All cases take turns, and the fastest of several rounds counts: what
else runs on the machine only ever adds time. Costs for each call, chunk, run
and byte are fitted to the times.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.calibration.cases import (
    PAIRS,
    READERS,
    SHAPE,
    SHORT_SHAPE,
    Reading,
    opened,
    readings,
    write_all,
)
from benchmarks.calibration.fit import MODELS, Fit, fitted
from benchmarks.calibration.scatter import scatter
from benchmarks.options import add_shared, output_folder, save
from benchmarks.versions import environment

_PAGE = "calibration"
_COLUMNS = (
    "Reader",
    "Codec",
    "Reads",
    "us a call",
    "us a chunk",
    "us a run",
    "GB/s",
    "KiB a chunk",
    "KiB a run",
    "error, median",
    "error, p90",
    "choice, median",
    "choice, worst",
)


def main(arguments: list[str]) -> int:
    """Time reads, fit the model; print the fits, and rewrite the figures of the page.

    Parameters
    ----------
    arguments : list of str
        Of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks reads", description=__doc__)
    add_shared(parser)
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--places", type=int, default=3, help="of each window (default: 3)")
    parser.add_argument("--docs", type=Path, help="folder to rewrite the table and figures in")
    given = parser.parse_args(arguments)
    shape = SHORT_SHAPE if given.short else SHAPE
    repeats, places = (1, 1) if given.short else (given.repeats, given.places)
    with output_folder(given.data) as folder:
        write_all(folder, shape)
        taken = measured(folder, list(readings(shape, places)), repeats)
    groups = {pair: [one for one in taken if (one.reader, one.codec) == pair] for pair in PAIRS}
    fits = [best_fit(group) for group in groups.values()]
    lines = table(fits)
    print("\n".join(lines))
    if given.docs is not None:
        write_page(given.docs, fits, groups, lines)
    save(
        given.json,
        fits=[
            {**vars(fit), "median_error": fit.median_error, "p90_error": fit.p90_error}
            for fit in fits
        ],
    )
    return 0


def measured(folder: Path, cases: Sequence[Reading], repeats: int) -> list[Reading]:
    """Return what was read with the seconds of the fastest round."""
    best = [one.seconds for one in cases]
    for _ in range(repeats):
        for at, one in enumerate(cases):
            read = opened(folder, one)
            began = time.perf_counter()
            read(one.region)
            best[at] = min(best[at], time.perf_counter() - began)
    return [replace(one, seconds=seconds) for one, seconds in zip(cases, best, strict=True)]


def best_fit(group: Sequence[Reading]) -> Fit:
    """Return the better fit, by the median error, of reading whole chunks or only a part."""
    models = MODELS if group[0].codec == "none" else MODELS[:1]
    return min((fitted(group, model) for model in models), key=lambda fit: fit.median_error)


def table(fits: Sequence[Fit]) -> list[str]:
    """Return the fits as a Markdown table."""
    lines = [f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|"]
    for fit in fits:
        micros = [f"{1e6 * fit.seconds.get(name, 0.0):.3g}" for name in ("call", "chunk", "run")]
        rate = 1e-9 / fit.seconds["byte"] if fit.seconds["byte"] else float("inf")
        overheads = [f"{fit.overhead_nbytes(name) / 1024:.3g}" for name in ("chunk", "run")]
        regrets = sorted(fit.regrets)
        cells = [
            fit.reader,
            fit.codec,
            fit.model,
            *micros,
            f"{rate:.3g}",
            *overheads,
            f"{fit.median_error:.2f}x",
            f"{fit.p90_error:.2f}x",
            f"{regrets[len(regrets) // 2]:.2f}x",
            f"{regrets[-1]:.2f}x",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def write_page(
    docs: Path,
    fits: Sequence[Fit],
    groups: dict[tuple[str, str], list[Reading]],
    lines: Sequence[str],
) -> None:
    """Write the table and one figure for each reader beside the page that includes them."""
    facts = environment()
    versions = facts["versions"]
    names = ("python", "HDF5", "h5py", "zarr", "numcodecs", "hdf5plugin")
    listed = ", ".join(f"{name} {versions[name]}" for name in names)
    note = f"Measured on {facts['cpu_count']} cores, {facts['platform']}, with {listed}."
    (docs / f"{_PAGE}-table.txt").write_text("\n".join([*lines, "", note, ""]), "utf-8")
    for reader in READERS:
        points = {
            fit.codec: [(fit.predicted(one), one.seconds) for one in groups[reader, fit.codec]]
            for fit in fits
            if fit.reader == reader
        }
        name = f"{_PAGE}-{reader.lower().replace(' ', '-')}.svg"
        (docs / name).write_text(scatter(reader, points), "utf-8")
