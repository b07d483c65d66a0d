"""HDF5 files: a whole Keras model, only its weights, or something else, told by the root group.

Reads the superblock and the root's object header as the HDF5 File Format Specification 3.0
lays them out (https://docs.hdfgroup.org/hdf5/v1_14/_f_m_t3.html): enough to list the names of
the root's attributes and of what lies in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from edgepipe.artifact import Format
from edgepipe.errors import EdgepipeError
from edgepipe.identify_sample import Damaged, Sample, damaged, listing, unknown, unsupported

MAGIC = b"\x89HDF\r\n\x1a\n"
LAST_USER_BLOCK = 1 << 16
MOST_BLOCKS, MOST_LINKS = 64, 200
LINK, ATTRIBUTE, CONTINUATION, SYMBOLS, ATTRIBUTE_INFO = 0x06, 0x0C, 0x10, 0x11, 0x15
WINDOW = 1 << 20


@dataclass
class Root:
    """Names in the root group. `elsewhere`: its attributes are too many for its header."""

    attributes: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    elsewhere: bool = False


def recognise(sample: Sample) -> Format | None:
    base = _signature(sample)
    if base is None:
        return None
    try:
        root = _Reader(sample, base).root()
        whole = "model_config" in root.attributes or (
            root.elsewhere and _contains(sample, b"model_config")
        )
    except Damaged as reason:
        raise damaged(sample.path, "an HDF5 file", str(reason)) from reason
    if whole:
        return Format.KERAS_H5
    raise _refusal(sample, root)


def _signature(sample: Sample) -> int | None:
    """Where the file begins: at 0, or after a user block of 512, 1024, ... bytes."""
    offset = 0
    while offset <= LAST_USER_BLOCK and offset < sample.size:
        if sample.at(offset, len(MAGIC)) == MAGIC:
            return offset
        offset = offset * 2 or 512
    return None


def _refusal(sample: Sample, root: Root) -> EdgepipeError:
    legacy = {"layer_names", "keras_version"} & set(root.attributes)
    if legacy or {"_layer_checkpoint_dependencies", "layers", "vars"} & set(root.links):
        return unsupported(
            sample.path,
            "only the weights of a Keras model, without the model: its HDF5 has no model_config",
            "rebuild the model in Python, `model.load_weights(...)`, save it whole with "
            "`model.save('model.keras')` and convert that.",
        )
    held = listing(sorted(root.links)) or "nothing"
    return unknown(
        sample.path,
        f"an HDF5 file, but no Keras model: no attribute model_config, and in it {held}",
        "save the Keras model whole, with `model.save('model.keras')`.",
    )


def _contains(sample: Sample, name: bytes) -> bool:
    """Attributes that fill more than the header lie in a heap; there the name is looked for."""
    for offset in range(0, sample.size, WINDOW):
        if name in sample.at(offset, WINDOW + len(name)):
            return True
    return False


class _Reader:
    """Offsets in the file count from `base`; their width is in the superblock."""

    def __init__(self, sample: Sample, base: int) -> None:
        self.sample = sample
        self.base = base
        self.version = sample.number(base + 8, 1)
        if self.version > 3:
            raise Damaged(f"superblock version {self.version}")
        at = base + (13 if self.version < 2 else 9)
        self.offsets, self.lengths = sample.number(at, 1), sample.number(at + 1, 1)
        if not {self.offsets, self.lengths} <= {2, 4, 8}:
            raise Damaged(f"offsets of {self.offsets} and lengths of {self.lengths} bytes")

    def root(self) -> Root:
        start = self.base + {0: 24, 1: 28, 2: 12, 3: 12}[self.version]
        end = self._offset(start + 2 * self.offsets)
        # Against the specification, the library counts this one from the file's beginning.
        if end > self.sample.size:
            raise Damaged(f"it should have {end:,} bytes and has {self.sample.size:,}")
        header = start + (5 if self.version < 2 else 3) * self.offsets
        address = self.base + self._offset(header)
        root = Root()
        for kind, at, size in self._messages(address):
            self._note(root, kind, at, size)
        return root

    def _offset(self, at: int) -> int:
        return self.sample.number(at, self.offsets)

    def _messages(self, address: int) -> Iterator[tuple[int, int, int]]:
        """Type, place and size of each message, through all continuation blocks."""
        modern = self.sample.at(address, 4) == b"OHDR"
        blocks = [self._modern_block(address) if modern else self._old_block(address)]
        creation_order = modern and bool(self.sample.number(address + 5, 1) & 4)
        prefix = (6 if creation_order else 4) if modern else 8
        for done, (start, end) in enumerate(blocks):
            if done >= MOST_BLOCKS:
                raise Damaged("its root's header never ends")
            at = start
            while at + prefix <= end:
                head = self.sample.exactly(at, prefix)
                kind = head[0] if modern else int.from_bytes(head[:2], "little")
                size = int.from_bytes(head[1:3] if modern else head[2:4], "little")
                at += prefix
                if kind == CONTINUATION:
                    blocks.append(self._continuation(at, modern))
                else:
                    yield kind, at, min(size, end - at)
                at += size

    def _old_block(self, address: int) -> tuple[int, int]:
        if self.sample.number(address, 1) != 1:
            raise Damaged(f"no object header where its root should be, at {address:,}")
        return address + 16, address + 16 + self.sample.number(address + 8, 4)

    def _modern_block(self, address: int) -> tuple[int, int]:
        flags = self.sample.number(address + 5, 1)
        at = address + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
        width = 1 << (flags & 3)
        return at + width, at + width + self.sample.number(at, width)

    def _continuation(self, at: int, modern: bool) -> tuple[int, int]:
        start = self.base + self._offset(at)
        length = self.sample.number(at + self.offsets, self.lengths)
        if start + length > self.sample.size:
            raise Damaged("its root's header goes on behind its end")
        # A modern block opens with `OCHK` and closes with a checksum.
        return (start + 4, start + length - 4) if modern else (start, start + length)

    def _note(self, root: Root, kind: int, at: int, size: int) -> None:
        if kind == ATTRIBUTE:
            root.attributes.append(self._attribute(at, size))
        elif kind == ATTRIBUTE_INFO:
            flags = self.sample.number(at + 1, 1)
            heap = self._offset(at + 2 + (2 if flags & 1 else 0))
            root.elsewhere = heap != (1 << 8 * self.offsets) - 1
        elif kind == LINK:
            root.links.append(self._link(at))
        elif kind == SYMBOLS:
            tree, heap = self._offset(at), self._offset(at + self.offsets)
            root.links.extend(self._symbols(self.base + tree, self.base + heap))

    def _attribute(self, at: int, size: int) -> str:
        version = self.sample.number(at, 1)
        length = self.sample.number(at + 2, 2)
        start = at + (9 if version == 3 else 8)
        return _text(self.sample.at(start, min(length, max(size - 8, 0))))

    def _link(self, at: int) -> str:
        flags = self.sample.number(at + 1, 1)
        start = at + 2 + bool(flags & 8) + (8 if flags & 4 else 0) + bool(flags & 16)
        width = 1 << (flags & 3)
        length = self.sample.number(start, width)
        return _text(self.sample.at(start + width, min(length, 255)))

    def _symbols(self, tree: int, heap: int) -> Iterator[str]:
        """The names in an old group: its first symbol node, which holds all of a small group."""
        if self.sample.at(heap, 4) != b"HEAP":
            raise Damaged(f"no heap with the names of its root, at {heap:,}")
        names = self.base + self._offset(heap + 8 + 2 * self.lengths)
        # A node of level 0 has 24 bytes and a key before its first child.
        node = tree
        for _ in range(MOST_BLOCKS):
            if self.sample.at(node, 4) != b"TREE":
                break
            node = self.base + self._offset(node + 8 + 2 * self.offsets + self.lengths)
        if self.sample.at(node, 4) != b"SNOD":
            return
        for entry in range(min(self.sample.number(node + 6, 2), MOST_LINKS)):
            at = self._offset(node + 8 + entry * (2 * self.offsets + 24))
            yield _text(self.sample.at(names + at, 255))


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "replace")
