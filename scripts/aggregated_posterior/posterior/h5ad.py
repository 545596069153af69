"""Arrays of an AnnData file, read by a process of its own: the HDF5 library never ends on some damaged files.

`python h5ad.py FILE OUTPUT` prints the names of all arrays, takes those that are wanted from standard input, and writes
them to OUTPUT, an `.npz` archive without pickles; all three messages are one line of JSON. Of the file only what lies
in it is read: links, external storage and virtual data sets, which could name any file that the reader may open, are
refused, and so is a data set that promises more numbers than are there.
"""

from __future__ import annotations

import json
import sys

import numpy as np

# gzip, the densest of HDF5's filters, makes at most this many bytes of one; and what any data set may take.
DENSEST, SMALL = 1032, 64 * 2**20
# A column of `obs`: the parts of a categorical one (−1 where missing), and of one with missing values.
PARTS = (("codes", "categories"), ("values", "mask"))


class Refused(Exception):
    """What is wrong, where, and what to do."""


def group(file, name: str):
    """A group of the file; a mapping with nothing in it where there is none."""
    node = member(file, name) if name in file else {}
    if hasattr(node, "shape"):
        raise Refused(f"{name} is an array, in AnnData files it is a group; write the file with anndata")
    return node


def member(parent, name: str):
    """A member of a group that lies in the file itself."""
    link = type(parent.get(name, getlink=True)).__name__
    if link != "HardLink":
        raise Refused(f"{name} is a link ({link}); only what lies in the file itself is read, copy it there")
    return parent[name]


def numbers(node) -> np.ndarray:
    """The numbers or texts of a data set."""
    if not hasattr(node, "shape"):
        raise Refused(f"{node.name} is a group, not an array; name an array")
    if node.external or node.is_virtual:
        raise Refused(f"{node.name} has its numbers in other files, which are not opened; copy them into this one")
    stored = node.id.get_storage_size()
    if node.nbytes > max(SMALL, DENSEST * stored):
        raise Refused(f"{node.name} promises {node.nbytes:,} bytes and holds {stored:,}; write the file again")
    values = np.asarray(node)
    if values.dtype.kind in "OS":
        texts = [value.decode("utf-8", "replace") if isinstance(value, bytes) else value for value in values.flat]
        if not all(isinstance(text, str) for text in texts):
            raise Refused(f"{node.name} holds neither numbers nor texts; save numbers")
        return np.array(texts, dtype=str).reshape(values.shape)
    return values


def referred(node, reference):
    """The categories of a categorical column, to which anndata before 0.8 refers from its codes."""
    import h5py

    # A reference leads to what lies in the file; a name could be a link's.
    if not isinstance(reference, h5py.Reference) or not reference:
        raise Refused(f"{node.name} is of categories that are not in the file; write it with a newer anndata")
    return node.file[reference]


def column(node) -> dict[str, np.ndarray]:
    """Ending of the name → array, of an array or a column of `obs`."""
    if hasattr(node, "shape"):
        if "categories" not in node.attrs:
            return {"": numbers(node)}
        return {"/codes": numbers(node), "/categories": numbers(referred(node, node.attrs["categories"]))}
    for parts in PARTS:
        if all(part in node for part in parts):
            return {f"/{part}": numbers(member(node, part)) for part in parts}
    raise Refused(f"{node.name} is a group of neither codes nor values; name an array")


def read(path: str, output: str) -> None:
    """See the module's own words."""
    import h5py

    with h5py.File(path, "r") as file:
        obsm, obs = (group(file, name) for name in ("obsm", "obs"))
        names = [*obsm, *(name for name in obs if name not in ("_index", "__categories"))]
        # A name that is not UTF-8 stays bytes: nobody can ask for it.
        print(json.dumps({"names": [name for name in names if isinstance(name, str)]}), flush=True)
        arrays: dict[str, np.ndarray] = {}
        # HDF5's names have no slash in them.
        for name in json.loads(sys.stdin.readline()):
            parts = {"": numbers(member(obsm, name))} if name in obsm else column(member(obs, name))
            arrays |= {f"{name}{ending}": array for ending, array in parts.items()}
    with open(output, "wb") as stream:  # noqa: PTH123 (no more imports than are needed)
        np.savez(stream, allow_pickle=False, **arrays)
    print(json.dumps({"written": len(arrays)}), flush=True)


if __name__ == "__main__":
    try:
        read(*sys.argv[1:])
    except Refused as problem:
        print(json.dumps({"refused": str(problem)}), flush=True)
    except Exception as problem:  # whatever a damaged file makes of the library
        print(json.dumps({"damaged": f"{type(problem).__name__}: {problem}"[:1000]}), flush=True)
