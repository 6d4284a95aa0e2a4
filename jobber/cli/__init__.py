"""The command line: `jobber`, or `python -m jobber.cli`."""

import os
import sys
from pathlib import Path


def main() -> None:
    """Run the command line on sys.argv."""
    from jobber.local.child import end_with_supervisor

    end_with_supervisor()
    _open_rooms()
    from jobber.cli.app import app

    app(prog_name="jobber")


def _open_rooms() -> None:
    """In an installed wheel, api, operators, pipelines and protos lie in jobber/_rooms: put them on the path, also of children.

    Names as general as `api` must not lie in everybody's site-packages.
    """
    rooms = str(Path(__file__).resolve().parents[1] / "_rooms")
    if os.path.isdir(rooms) and rooms not in sys.path:
        sys.path.append(rooms)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), rooms)))
