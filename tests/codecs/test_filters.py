"""Every spelling of a compression ends in the filters that h5py would set."""

import h5py
import hdf5plugin
import numpy as np
import pytest

from lazyio.codecs.hdf5_filters import CODECS, NAMES, Filter, parse_filters
from lazyio.errors import OptionError

FACTS = {"dtype": np.dtype("f4"), "chunk_nbytes": 4000}
BLOSC = (2, 2, 4, 4000)


def only(compression, opts=None, **facts):
    """Return the one filter of a compression."""
    (found,) = parse_filters(compression, opts, **FACTS | facts)
    return found.filter_id, found.options


@pytest.mark.parametrize(
    ("compression", "opts", "expected"),
    [
        ("gzip", None, (1, (4,))),
        ("gzip", 9, (1, (9,))),
        ("gzip", np.int64(0), (1, (0,))),
        ("gzip", (6,), (1, (6,))),
        ("GZIP", 1, (1, (1,))),
        (True, None, (1, (4,))),
        (True, 7, (1, (7,))),
        ("zstd", None, (32015, (3,))),
        ("zstd", 22, (32015, (22,))),
        ("zstd", -5, (32015, (2**32 - 5,))),
        ("lzf", None, (32000, ())),
        ("lz4", None, (32004, (0,))),
        ("lz4", 4096, (32004, (4096,))),
        ("lz4", (4096,), (32004, (4096,))),
        ("bitshuffle", None, (32008, (0, 2))),
        ("bitshuffle", ("lz4", 0), (32008, (0, 2))),
        ("bitshuffle", ("none", 0), (32008, (0, 0))),
        ("bitshuffle", ["zstd", 3], (32008, (0, 3, 3))),
        ("bitshuffle", ("zstd", -5), (32008, (0, 3, 2**32 - 5))),
        ("scaleoffset", 3, (6, (0, 3))),
        ("scaleoffset", [3], (6, (0, 3))),
        ("nbit", None, (5, ())),
        ("blosc", None, (32001, (*BLOSC, 5, 1, 1))),
        ("blosc", ("zstd", 1, "bit"), (32001, (*BLOSC, 1, 2, 5))),
        ("blosc", ["zlib", 9, "no"], (32001, (*BLOSC, 9, 0, 4))),
        ("blosc2", ("zstd", 1, "byte"), (32026, (0, 0, 0, 0, 1, 1, 5))),
        ("szip", None, (4, (32, 8))),
        ("szip", ("ec", 16), (4, (4, 16))),
    ],
    ids=str,
)
def test_names(compression, opts, expected):
    """Names, in any case, with and without options."""
    assert only(compression, opts) == expected


@pytest.mark.parametrize("level", range(10))
def test_h5pys_bare_levels(level):
    """0 to 9 are gzip levels, as in h5py."""
    assert only(level) == only(np.int64(level)) == (1, (level,))


@pytest.mark.parametrize(
    ("number", "opts", "expected"),
    [
        (1, (6,), (1, (6,))),
        (32015, (3,), (32015, (3,))),
        (32015, None, (32015, ())),
        (32015, (-5,), (32015, (2**32 - 5,))),
        (32001, (0, 0, 0, 0, 1, 2, 5), (32001, (*BLOSC, 1, 2, 5))),
        (32001, None, (32001, (*BLOSC, 5, 1, 0))),
        (32001, (0, 0, 0, 0, 9), (32001, (*BLOSC, 9, 1, 0))),
        (32008, (0, 3, 2), (32008, (0, 3, 2))),
        (307, [9], (307, (9,))),
        (65535, (), (65535, ())),
    ],
    ids=str,
)
def test_ids(number, opts, expected):
    """Registered numbers with their client data, as h5py takes them."""
    assert only(number, opts) == expected


PLUGINS = [
    hdf5plugin.Zstd(clevel=3),
    hdf5plugin.Zstd(clevel=-5),
    hdf5plugin.Blosc(),
    hdf5plugin.Blosc(cname="zstd", clevel=1, shuffle=hdf5plugin.Blosc.BITSHUFFLE),
    hdf5plugin.Blosc2(cname="zstd", clevel=1),
    hdf5plugin.Bitshuffle(),
    hdf5plugin.Bitshuffle(cname="zstd", clevel=2),
    hdf5plugin.LZ4(),
    hdf5plugin.BZip2(),
]


@pytest.mark.parametrize("plugin", PLUGINS, ids=repr)
def test_plugin_objects(plugin):
    """hdf5plugin's objects, their keyword form and a dict of it are the same filter."""
    found = only(plugin)
    assert found[0] == plugin.filter_id
    keywords = {**plugin}
    assert found == only(keywords["compression"], keywords["compression_opts"])
    assert found == only(keywords)


@pytest.mark.parametrize(
    "keywords",
    [
        {"compression": "gzip"},
        {"compression": "gzip", "compression_opts": 9, "shuffle": True},
        {"compression": 5, "fletcher32": True},
        {"shuffle": True, "fletcher32": True},
        {**hdf5plugin.Zstd(clevel=3), "shuffle": True},
        {"compression": hdf5plugin.Zstd(clevel=-5)},
        {**hdf5plugin.Blosc(cname="zstd", clevel=1, shuffle=2), "fletcher32": True},
        {"compression": hdf5plugin.Blosc()},
        {},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["i1", "i2", "f8", "S300"])
def test_file_says_the_same_as_with_h5py(keywords, dtype):
    """The same keywords give the pipeline that h5py puts into the file."""
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset("data", (64, 10), dtype, chunks=(16, 10), **keywords)
        settings = dataset.id.get_create_plist()
        pipeline = [settings.get_filter(at) for at in range(settings.get_nfilters())]
    expected = [(number, options) for number, _, options, _ in pipeline]
    chunk_nbytes = 160 * np.dtype(dtype).itemsize
    keywords = {"compression": None, **keywords}
    found = parse_filters(**keywords, dtype=np.dtype(dtype), chunk_nbytes=chunk_nbytes)
    assert [(step.filter_id, step.options) for step in found] == expected


def test_order():
    """Shuffle comes before the codec, the checksum after it."""
    found = parse_filters("zstd", shuffle=True, fletcher32=True, **FACTS)
    assert [step.name for step in found] == ["shuffle", "zstd", "fletcher32"]
    assert found[0].options == (4,)


@pytest.mark.parametrize("compression", [None, False], ids=str)
def test_no_compression(compression):
    """Without compression there is no filter."""
    assert parse_filters(compression, **FACTS) == ()


@pytest.mark.parametrize(
    ("compression", "opts", "message"),
    [
        ("gzipp", None, r"compression='gzipp' is not a codec lazyio knows; give one of gzip, zstd"),
        (1.5, None, r"compression=1\.5 is not a codec"),
        ({"level": 3}, None, r"is not a codec lazyio knows"),
        (b"gzip", None, r"compression=b'gzip' is not a codec"),
        (None, 4, r"compression_opts=4 without compression"),
        (False, 4, r"compression_opts=4 without compression"),
        ("gzip", 10, r"compression_opts=10: gzip takes a level from 0 to 9"),
        ("gzip", -1, r"compression_opts=-1: gzip takes a level from 0 to 9"),
        ("gzip", 4.0, r"compression_opts=4\.0: gzip takes a level"),
        ("gzip", True, r"compression_opts=True: gzip takes a level"),
        ("gzip", "best", r"compression_opts='best': gzip takes a level"),
        ("gzip", (4, 5), r"compression_opts=\(4, 5\): gzip takes a level"),
        (1, (10,), r"compression_opts=10: gzip takes a level from 0 to 9"),
        ("zstd", 23, r"compression_opts=23: zstd takes a level from -131072 to 22"),
        ("lzf", 4, r"compression_opts=4: lzf takes none"),
        ("bitshuffle", 4, r"compression_opts=4: bitshuffle takes \(cname, clevel\)"),
        ("bitshuffle", ("lz4", 3), r"bitshuffle takes .* a clevel for zstd, else 0"),
        ("bitshuffle", ("zstd", 23), r"bitshuffle takes"),
        ("bitshuffle", (["zstd"], 1), r"bitshuffle takes"),
        ("lz4", -1, r"compression_opts=-1: lz4 takes the bytes of a block"),
        ("lz4", 2**31, r"lz4 takes the bytes of a block, up to 2113929216, or 0"),
        (32004, (2**31,), r"lz4 takes the bytes of a block, up to 2113929216, or 0"),
        ("lz4", "all", r"lz4 takes the bytes of a block"),
        ("nbit", 3, r"compression_opts=3: nbit takes none"),
        ("scaleoffset", None, r"compression_opts=None with dtype float32: scaleoffset takes"),
        ("scaleoffset", True, r"compression_opts=True with dtype float32: scaleoffset takes"),
        ("scaleoffset", -1, r"scaleoffset takes .* decimals to keep of a float"),
        ("blosc", 4, r"compression_opts=4: blosc takes \(cname, clevel, shuffle\)"),
        ("blosc", ("zstd", 10, "bit"), r"blosc takes .* clevel 0 to 9"),
        ("blosc", ("lzma", 1, "bit"), r"blosc takes .* cname one of blosclz, lz4"),
        ("blosc", ("zstd", 1, 1), r"blosc takes .* shuffle no, byte or bit"),
        ("blosc2", ("zstd", 1), r"blosc2 takes \(cname, clevel, shuffle\)"),
        ("szip", ("nn", 7), r"szip takes \('nn' or 'ec', even number from 2 to 32\)"),
        ("szip", ("xx", 8), r"szip takes"),
        (-1, None, r"compression=-1 is not a filter id; ids are 1 to 65535"),
        (65536, (), r"compression=65536 is not a filter id"),
        (32015, "fast", r"compression_opts='fast' for filter 32015; .* tuple of integers"),
        (32015, 3, r"compression_opts=3 for filter 32015; .* tuple of integers"),
    ],
    ids=str,
)
def test_refused(compression, opts, message):
    """Names, levels and options that a filter does not have are refused by name."""
    with pytest.raises(OptionError, match=message):
        parse_filters(compression, opts, **FACTS)


@pytest.mark.parametrize(("opts", "bits"), [(None, 0), (True, 0), (0, 0), (7, 7)], ids=str)
def test_scaleoffset_of_integers(opts, bits):
    """Integers are scaled to the bits that they need, or to those that are given."""
    assert only("scaleoffset", opts, dtype=np.dtype("u2")) == (6, (2, bits))


@pytest.mark.parametrize("dtype", ["S4", "c8", "bool"])
def test_scaleoffset_of_other_dtypes(dtype):
    """What is neither an integer nor a float cannot be scaled."""
    with pytest.raises(OptionError, match=r"scaleoffset takes"):
        only("scaleoffset", 3, dtype=np.dtype(dtype))


def test_scaleoffset_with_a_checksum():
    """HDF5 does not check what is lossy, so h5py refuses the pair, and so do we."""
    with pytest.raises(OptionError, match=r"fletcher32=True with scaleoffset"):
        parse_filters("scaleoffset", 3, fletcher32=True, **FACTS)


def test_scaleoffset_comes_before_the_shuffle():
    """The filter needs whole elements."""
    found = parse_filters("scaleoffset", 3, shuffle=True, **FACTS)
    assert [step.name for step in found] == ["scaleoffset", "shuffle"]


@pytest.mark.parametrize("opts", [4, ("ec",), (["ec"], 8), ("ec", 8, 1)], ids=repr)
def test_refused_szip_options(opts):
    """Options of szip that are no pair of method and number are refused."""
    with pytest.raises(OptionError, match=r"compression_opts=.*: szip takes"):
        parse_filters("szip", opts, **FACTS)


@pytest.mark.parametrize(
    "opts", [(["zstd"], 1, "bit"), ("zstd", 1, ["bit"]), ("zstd", [1], "bit")], ids=repr
)
def test_refused_blosc_options(opts):
    """Lists inside blosc's options are refused like any other wrong option."""
    with pytest.raises(OptionError, match=r"blosc takes \(cname, clevel, shuffle\)"):
        parse_filters("blosc", opts, **FACTS)


def test_lz4_stops_at_2_gib():
    """A chunk over what the LZ4 filter counts is refused, by name and by number."""
    for compression in ("lz4", 32004):
        with pytest.raises(OptionError, match=r"2147483648 bytes is more than lz4 takes"):
            only(compression, chunk_nbytes=2**31)
    assert only("lz4", chunk_nbytes=2**31 - 1)[0] == 32004


def test_blosc_stops_at_2_gib():
    """A chunk over what blosc counts is refused before anything is encoded."""
    with pytest.raises(OptionError, match=r"2147483632 bytes is more than blosc takes"):
        only("blosc", chunk_nbytes=2**31 - 16)
    assert only("blosc", chunk_nbytes=2**31 - 17)[0] == 32001


def test_blosc_of_wide_elements():
    """Elements that do not fit blosc's header are single bytes to it."""
    assert only("blosc", dtype=np.dtype("S300"))[1][2] == 1


def test_names_of_filters():
    """Each codec of the table is found by its number; others show the number."""
    assert len(NAMES) == len(CODECS)
    assert all(Filter(filter_id=codec.filter_id).name == codec.name for codec in CODECS)
    assert Filter(filter_id=307).name == "307"
