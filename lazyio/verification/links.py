"""Checks of what leads out of an HDF5 file: whether it is there, and still what it was."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import h5py

from lazyio.atomic.digests import Table
from lazyio.atomic.hdf5_digests import ObjectNames
from lazyio.dtypes import Shape
from lazyio.libhdf5_calls import link_at
from lazyio.sources.hdf5_links import OUTSIDE, PIECE, RAW, FileLink
from lazyio.sources.path_policy import LinkEnd
from lazyio.storage.hdf5.links import ENDS, LINK, PIECES, end_name, fact_of_link, facts_of_virtual
from lazyio.verification.report import GONE, SINCE, Findings


def note_links(findings: Findings, links: Iterable[FileLink]) -> None:
    """Note links and sources, and which of them are broken or lead out of the folder."""
    for link in links:
        findings.links.append(link)
        if link.is_broken:
            findings.damage(link.key, link.why)
        # A dataset tells itself that it is not read.
        elif link.state == OUTSIDE and link.kind not in (PIECE, RAW):
            findings.cannot_tell(link.key, f"it is not read: {link.why}")


def is_link(file: h5py.File, key: str) -> bool:
    """Return whether there is a soft or external link at a key."""
    return isinstance(link_at(file, key), (h5py.SoftLink, h5py.ExternalLink))


def check_link(
    findings: Findings, file: h5py.File, key: str, table: Table, links: Iterable[FileLink]
) -> None:
    """Check a link against its digests."""
    link = link_at(file, key)
    if link is None:
        findings.damage(key, GONE.replace("removed", "moved or removed"))
    elif not isinstance(link, (h5py.SoftLink, h5py.ExternalLink)):
        findings.damage(key, "it was a link when it was written, and is none now")
    elif table.facts[LINK] != fact_of_link(link):
        findings.damage(key, f"where it leads to {SINCE}")
    else:
        compare_ends(findings, key, table.facts, links)


def compare_ends(
    findings: Findings, key: str, facts: Mapping[str, str], links: Iterable[FileLink]
) -> None:
    """Note what a link or the sources of a virtual dataset lead to, if that is another by now."""
    found = {end_name(link.target, link.path): link.end for link in links if link.end is not None}
    for name, text in facts.items():
        if not name.startswith(ENDS) or name not in found:
            continue  # It is broken, or named otherwise, which has been noted.
        old, new = LinkEnd.of_text(text), found[name]
        if new == old:
            continue
        if new.dtype == old.dtype and _has_grown(old.shape, new.shape):
            findings.change(key, f"its {name} has grown from shape {old.shape} to {new.shape}")
        else:
            what = f"its {name} was a {old} when it was written, and is a {new} now"
            findings.damage(key, what)


def _has_grown(old: Shape | None, new: Shape | None) -> bool:
    """Return whether no axis has become shorter."""
    if old is None or new is None or len(old) != len(new):
        return False
    return all(a <= b for a, b in zip(old, new, strict=True))


def without_ends(table: Table) -> Table:
    """Return digests without what other files were."""
    own = {name: fact for name, fact in table.facts.items() if not name.startswith(ENDS)}
    return replace(table, facts=own)


def facts_as_known(dataset: h5py.Dataset, table: Table, names: ObjectNames) -> dict[str, str]:
    """Return what describes a virtual dataset, as far as its digests speak of it."""
    facts = facts_of_virtual(dataset, names)
    return facts if PIECES in table.facts else {k: v for k, v in facts.items() if k != PIECES}
