"""Runs the command line for `geofilter` and `python -m geofilter`."""

import sys

from geofilter.cli.main import main


def run() -> None:
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
