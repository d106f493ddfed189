"""`imaging status`: what a run into a folder has answered so far, also while it is going on."""

from __future__ import annotations

import argparse
from pathlib import Path


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The subcommand and its arguments."""
    parser = subparsers.add_parser(
        "status",
        help="what a run has answered so far",
        description="Counts of answers and files in OUT, and whether a run is going on. It never disturbs the run.",
        epilog="Answers without a result can be tried again: imaging infer EXPORT --out OUT --retry failed",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder given to imaging infer --out")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Exit status 0; raises OutputError when no run has written there."""
    from imaging.inference.ledger import Status
    from imaging.modalities.reasons import reason_of

    status = Status(args.out)
    print(f"{'a run is going on' if status.is_running else 'no run is going on'}; content time {status.content_time}")
    for (finding, completeness, reason), count in sorted(status.outcomes.items(), key=str):
        why = f" ({reason_of(reason).meaning})" if reason else ""
        print(f"{count:6d}  finding {finding}, {completeness} read{why}")
    for (state, reason), count in sorted(status.files.items(), key=str):
        print(f"{count:6d}  files {state}{f': {reason_of(reason).meaning}' if reason else ''}")
    return 0
