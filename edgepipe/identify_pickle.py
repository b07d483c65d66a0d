"""Pickles of PyTorch and others, told by the names in them. Nothing is executed."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path

from edgepipe.artifact import Format
from edgepipe.errors import EdgepipeError
from edgepipe.identify_sample import Sample, damaged, listing, unsupported

# torch.serialization.MAGIC_NUMBER, the first of four pickles that older PyTorch wrote in a row
OLD_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
SCANNED = 1 << 22
MOST_OPCODES = 300_000
DICTS = ("dict", "collections.OrderedDict", "collections.defaultdict", "builtins.dict")
HARMLESS = (
    "torch.",
    "collections.",
    "builtins.",
    "__builtin__.",
    "copyreg.",
    "copy_reg.",
    "_codecs.",
    "numpy.",
    "argparse.",
    "pathlib.",
    "datetime.",
)
MODULES = ("torch.nn.", "torch.fx.", "torch.jit.", "torch.ao.")
KEYS = ("pytorch-lightning_version", "state_dict", "model_state_dict", "optimizer")


@dataclass
class Scan:
    """`root` is the class of the outermost object, or dict, list, tuple; empty if not known."""

    root: str = ""
    classes: list[str] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)

    def objects(self) -> list[str]:
        """Classes beyond the tensors and plain data that a state_dict is made of."""
        return [name for name in self.classes if _is_object(name)]


def recognise(sample: Sample) -> Format | None:
    head = sample.head
    if head[:1] != b"\x80" or head[1:2] not in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return None
    stream = io.BytesIO(sample.at(0, SCANNED))
    try:
        if OLD_TORCH in head[:40]:
            for _ in range(3):  # magic number, protocol, the machine's sizes
                scan(stream)
            return judge(sample.path, scan(stream))
        found = scan(stream)
    except ValueError as error:
        raise damaged(sample.path, "a pickle", str(error)) from error
    raise _foreign(sample.path, found)


def judge(path: Path, found: Scan) -> Format:
    """What `torch.save` was given: a whole module, or something that needs its code."""
    objects = found.objects()
    if found.root in DICTS and not objects:
        raise state_dict(path, _kind(found))
    if found.root in DICTS:
        raise unsupported(
            path,
            f"a checkpoint: a dict that holds tensors and pickled objects ({listing(objects)})",
            "take the module out of it in Python and save it with `torch.export.save`, or keep "
            "its state_dict and give the code: `--model package.module:factory --weights FILE`.",
        )
    if found.root in ("list", "tuple", "") or not _is_object(found.root):
        raise unsupported(
            path,
            f"tensors saved by PyTorch ({found.root or 'plain values'}), without a model",
            "save the module with `torch.export.save`, or its state_dict.",
        )
    return Format.TORCH_PICKLE


def state_dict(path: Path, kind: str) -> EdgepipeError:
    return unsupported(
        path,
        f"{kind}: weights without the code of their model",
        f"name a function that returns the model: `--model package.module:factory "
        f"--weights {path}`; or save the whole model with `torch.export.save`.",
    )


def scan(stream: io.BytesIO) -> Scan:
    """Read one pickle's opcodes. A ValueError says that it is none, or ends too early."""
    import pickletools

    found = Scan()
    names = _Names()
    cut = len(stream.getbuffer()) >= SCANNED
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            _step(found, names, opcode.name, argument)
            if count > MOST_OPCODES:
                break
    except (ValueError, IndexError, OverflowError, KeyError) as error:
        if not cut or not found.root:
            raise ValueError(f"its pickle can't be read: {error}") from error
    return found


class _Names:
    """The strings that a pickle pushed and memorised: `STACK_GLOBAL` takes its name from them."""

    def __init__(self) -> None:
        self.pushed: list[str] = ["", ""]
        self.memo: dict[int, str] = {}
        self.last = ""

    def step(self, name: str, argument: object) -> None:
        if name == "MEMOIZE":
            self.memo[len(self.memo)] = self.last
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[int(str(argument))] = self.last
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            self._push(self.memo.get(int(str(argument)), ""))
        elif isinstance(argument, str):
            self._push(argument)
        else:
            self.last = ""

    def _push(self, text: str) -> None:
        self.last = text
        self.pushed = [self.pushed[-1], text]


def _step(found: Scan, names: _Names, name: str, argument: object) -> None:
    if name in ("GLOBAL", "STACK_GLOBAL", "INST"):
        dotted = ".".join(names.pushed) if name == "STACK_GLOBAL" else str(argument)
        dotted = dotted.replace(" ", ".")
        if dotted not in found.classes and len(found.classes) < 1000:
            found.classes.append(dotted)
        if not found.root and not dotted.endswith("._reconstructor"):
            found.root = dotted
        names.last = ""
        return
    names.step(name, argument)
    if isinstance(argument, str) and argument in KEYS:
        found.keys.add(argument)
    if not found.root and name in ("EMPTY_DICT", "DICT", "EMPTY_LIST", "LIST", "TUPLE"):
        found.root = name.removeprefix("EMPTY_").lower()


def _is_object(name: str) -> bool:
    if name.startswith("torch.nn.parameter."):
        return False
    return name.startswith(MODULES) or not name.startswith(HARMLESS)


def _kind(found: Scan) -> str:
    if "pytorch-lightning_version" in found.keys:
        return "a PyTorch Lightning checkpoint"
    if found.keys & {"state_dict", "model_state_dict", "optimizer"}:
        return "a PyTorch checkpoint"
    return "a PyTorch state_dict"


def _foreign(path: Path, found: Scan) -> EdgepipeError:
    what = f" of {found.root}" if found.root else ""
    return unsupported(
        path,
        f"a Python pickle{what} that `torch.save` did not write",
        "export the model to ONNX with its own library, for example skl2onnx for scikit-learn.",
    )
