"""Goes to the board, beside the runner: writes what every operator of a model gives there.

    python3 board_layers.py BUNDLE MODEL FILE SAMPLES FEEDS [ARGUMENT]...

FILE is the form of the bundle's MODEL whose outputs are all of its tensors. It is fed the first
SAMPLES of the bundle, or what FEEDS holds where that is a file. Arguments are the runner's.
"""

import importlib
import os
import sys
from typing import Any, Dict, List

OUT = "layers.npz"


def main(words: List[str]) -> int:
    sys.path.insert(0, os.getcwd())  # Python starts from where the link to this file leads.
    runner = importlib.import_module("run_on_device")
    path, name, file, count, feeds = words[:5]
    args = runner.parser().parse_args([path] + words[5:])
    try:
        write(runner, path, name, file, int(count), feeds, args)
    except runner.Stop as error:
        sys.stderr.write("error: %s\n  -> %s\n" % (error.message, error.hint))
        return int(error.code)
    return 0


def write(runner: Any, path: str, name: str, file: str, count: int, feeds: str, args: Any) -> None:
    import numpy as np

    bundle = runner.Bundle(path, args.key, args.public_key)
    model = next(one for one in bundle.manifest["models"] if one["name"] == name)
    with open(file, "rb") as stream:
        content = stream.read()
    given = np.load(feeds) if feeds else None
    bare = dict(model, inputs=[], outputs=[]) if given is not None else dict(model, outputs=[])
    module = runner.import_runtime(model["form"], args.runtime)[1]
    runtime = runner.Litert(module, bare, content, args)
    found: Dict[str, Any] = {}
    rows = [bundle.rows(end["file"]) for end in bare["inputs"]]
    for number in range(count):
        if given is None:
            runtime.feed(
                [
                    runner.prepared(next(each), end.get("steps"))
                    for each, end in zip(rows, bare["inputs"])
                ]
            )
        else:
            for details in runtime.interpreter.get_input_details():
                name = details["name"].partition("fed/")[2]
                runtime.interpreter.set_tensor(details["index"], given["%d:%s" % (number, name)])
        for details in runtime.interpreter.get_input_details():
            key = "%d:%s" % (number, details["name"])
            found[key] = runtime.interpreter.get_tensor(details["index"])
        runtime.run()
        for details in runtime.interpreter.get_output_details():
            key = "%d:%s" % (number, details["name"])
            found[key] = runtime.interpreter.get_tensor(details["index"])
        sys.stderr.write('{"event": "layers", "done": %d, "of": %d}\n' % (number + 1, count))
    placement = runtime.placement()
    sys.stderr.write("%s of %s ops delegated\n" % (placement.get("taken"), placement.get("ops")))
    np.savez_compressed(OUT, **found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
