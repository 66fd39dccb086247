"""Make the notebook for a code competition: a folder for Kaggle's own client. The notebook uses no network.

For a RUN the notebook contains the weights and predicts. For a RECIPE it trains on Kaggle, for as many epochs as fit
into the competition's time, and predicts. --push sends the data set and the notebook, waits until it has ended and
downloads its files; then ./run.sh submit RUN --kernel enters that version. --output downloads the files of a notebook
sent before.
"""

from __future__ import annotations

import argparse

from featherweight.cli.arguments import RUNS, add_competition, completed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `kernel`."""
    completed(
        parser.add_argument("what", metavar="RUN|RECIPE", help="a finished run, or a recipe to train on Kaggle"), RUNS
    )
    add_competition(parser, default=None, text="the competition (default: the run's)")
    parser.add_argument("--gpu", action="store_true", help="ask for a GPU")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--push", action="store_true", help="send it to Kaggle, wait until it ends, download its output")
    what.add_argument(
        "--output", action="store_true", help="download the files that the notebook sent last has written"
    )


def run(arguments: argparse.Namespace) -> int:
    """Make the folder; with --push, send it."""
    from featherweight import paths
    from featherweight.kaggle.notebook import kernel

    request = kernel.request_of(arguments.what, arguments.competition)
    if arguments.push or arguments.output:
        from featherweight.kaggle.notebook import push

        print(push.push(request, gpu=arguments.gpu) if arguments.push else push.output(request))
        return 0
    folder = kernel.write(request, gpu=arguments.gpu)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"wrote {paths.shown(folder)} ({size / 2**20:.1f} MB): {request.rules.minutes} minutes, no network")
    print(f"  {kernel.OWNER_PLACEHOLDER} in it stands for your name on Kaggle; --push fills it in and sends it")
    gpu = " --gpu" if arguments.gpu else ""
    print(f"next: ./run.sh kernel {arguments.what} --competition {request.competition_name}{gpu} --push")
    return 0
