"""Run `bergson build` on some rows and say how long its parts took.

Runs under the Python of bergson's own environment, which holds no geofilter, so it
imports nothing from here. How to make that environment is said in `speed.py`.

    BERGSON_PYTHON bergson_peer.py MODEL ROWS.jsonl FOLDER

The last line of standard output is a JSON object: `collect_s`, the collection of
gradients alone (model loaded, rows tokenised); `build_s`, the command without start-up
and imports; `tokens` and `rows`; `versions`.
"""

import importlib
import importlib.metadata
import json
import sys
import time
from typing import Any


def main() -> None:
    model, data, folder = sys.argv[1:]
    command = importlib.import_module("bergson.__main__")
    build = importlib.import_module("bergson.build")
    collect = build.collect_gradients
    figures: dict[str, Any] = {}

    def timed(**arguments: Any) -> None:
        lengths = arguments["data"]["length"][:]
        figures.update(tokens=sum(lengths), rows=len(lengths))
        started = time.perf_counter()
        collect(**arguments)
        figures["collect_s"] = time.perf_counter() - started

    build.collect_gradients = timed
    sys.argv = ["bergson", "build", f"{folder}/index", "--model", model, "--dataset", data]
    sys.argv += ["--conversation_column", "messages", "--projection_dim", "16"]
    started = time.perf_counter()
    command.main()
    figures["build_s"] = time.perf_counter() - started
    names = ("bergson", "torch", "transformers")
    figures["versions"] = {name: importlib.metadata.version(name) for name in names}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
