"""Redraw the plots of a well-known post on PyTables and data larger than memory.

"Using PyTables for Larger-Than-RAM Data Processing" (Kyle Kastner, 2015) keeps points of four
clusters in arrays that grow, rows of differing length in a VLArray, and small images of differing
shape in an array with side columns. Here lazyio writes all of them and reads them back; the images
take less than the 47 kB of the post, digests included.

Run it in a folder where files may be left behind. Without matplotlib it draws nothing.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

import lazyio

try:
    from matplotlib.figure import Figure
except ImportError:  # It is for drawing alone.
    Figure = None  # type: ignore[assignment,misc]

COLORS = ["#9b59b6", "#3498db", "#e74c3c", "#2ecc71"]
FILE = "ragged_rows.h5"


def cluster_points(n_points: int) -> Iterator[tuple[np.ndarray, np.intp]]:
    """Yield points of four clusters, each with the number of its cluster."""
    random = np.random.RandomState(1999)
    centres = np.array([(-1, -1), (1, 1), (1, -1), (-1, 1)])
    chosen = random.randint(0, len(centres), size=n_points)
    yield from zip(centres[chosen] + random.randn(n_points, 2) * 0.2, chosen, strict=True)


def rows_with_classes() -> Iterator[tuple[np.ndarray, int]]:
    """Yield rows of 0 to some 1,000 numbers, each with a class."""
    random = np.random.RandomState(1999)
    for _ in range(1000):
        length = int(100 * random.randn() ** 2)
        yield random.randn(length).astype("f4"), length % random.randint(1, 5)


def rows_of_two_axes() -> Iterator[np.ndarray]:
    """Yield rows of differing shape."""
    random = np.random.RandomState(1999)
    for _ in range(1000):
        shape = (int(100 * random.randn() ** 2), random.randint(2, 10))
        yield random.randn(*shape).astype("f4")


def pseudo_images() -> Iterator[np.ndarray]:
    """Yield images of 2 to 9 pixels on a side."""
    random = np.random.RandomState(1999)
    for _ in range(1000):
        shape = random.randint(2, 10, 2)
        yield random.randint(0, 256, shape[0] * shape[1]).astype("i4").reshape(shape)


def write() -> lazyio.WriteReport:
    """Write everything to one file, one point or row at a time, as an experiment would."""
    with lazyio.writer(FILE, mode="w") as w:
        options = {"compression": "gzip", "shuffle": True}
        points = w.create("points", dtype="f8", item_shape=2, expected_length=10_000, **options)
        clusters = w.create("clusters", dtype="i8", item_shape=(), **options)
        rows = w.create("rows", dtype="f4", ragged=True, **options)
        classes = w.create("classes", dtype="i4", item_shape=(), **options)
        for point, cluster in cluster_points(10_000):
            points.append(point)
            clusters.append(cluster)
        for row, kind in rows_with_classes():
            rows.append(row)
            classes.append(kind)
    lazyio.to_hdf5(lazyio.Ragged.from_rows(rows_of_two_axes()), FILE, "two_axes")
    images = lazyio.Ragged.from_rows(pseudo_images())
    return lazyio.to_hdf5(images, "images.h5", "images", mode="w", compression="gzip", shuffle=True)


def draw_clusters(name: str, selection: slice) -> None:
    """Draw points in the colors of their clusters."""
    points = lazyio.open(FILE, "points")[selection].compute()
    clusters = lazyio.open(FILE, "clusters")[selection].compute()
    figure = Figure()
    axes = figure.subplots()
    for cluster in np.unique(clusters):
        of_cluster = points[clusters == cluster]
        axes.scatter(of_cluster[:, 0], of_cluster[:, 1], color=COLORS[cluster])
    axes.set_axis_off()
    axes.set_title(f"{len(points)} points")
    figure.savefig(name)


def draw_lengths() -> None:
    """Draw how long rows are, of which only the index is read."""
    rows = lazyio.open_ragged(FILE, "rows")
    figure = Figure()
    axes = figure.subplots()
    axes.hist(rows.lengths(), color="steelblue")
    axes.set_title("Lengths of rows")
    figure.savefig("lengths.png")


def draw_lengths_by_class() -> None:
    """Draw how long the rows of each class are, taken by a mask."""
    rows = lazyio.open_ragged(FILE, "rows")
    classes = lazyio.open(FILE, "classes").compute()
    figure = Figure()
    axes = figure.subplots()
    for kind in np.unique(classes):
        lengths = [len(row) for row in rows[classes == kind]]
        axes.scatter(lengths, np.full(len(lengths), kind), color=COLORS[kind])
    axes.set_title("Length and class")
    figure.savefig("length_by_class.png")


if __name__ == "__main__":
    report = write()
    print(report.plans["images/values"], report, sep="\n\n", end="\n\n")
    two_axes = lazyio.open_ragged(FILE, "two_axes")
    print("last row", two_axes[-1].shape)
    print("rows before it", [row.shape for row in two_axes[-5:-1]])
    images = lazyio.open_ragged("images.h5", "images")
    n_kilobytes = Path("images.h5").stat().st_size / 1000
    print(f"{len(images)} images of {images.lengths().sum()} pixels in {n_kilobytes:.1f} kB")
    if Figure is None:
        print("matplotlib is not installed, so nothing is drawn")
    else:
        draw_clusters("clusters.png", slice(None))
        draw_clusters("some_points.png", slice(10, 100))
        draw_lengths()
        draw_lengths_by_class()
        print("drew", *sorted(path.name for path in Path().glob("*.png")))
