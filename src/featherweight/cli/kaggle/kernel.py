"""Make the notebook of a competition that takes code: a folder for Kaggle's own client, which runs without a network.

For a RUN it takes the weights along and predicts; for a RECIPE it trains there, the number of epochs that fits into the
competition's time. With --push both the data set and the notebook are sent, its end is waited for and its files are
fetched; then ./run.sh submit RUN --kernel enters that version. --output fetches the files of what was sent before.
"""

from __future__ import annotations

import argparse

from featherweight.cli.arguments import RUNS, add_competition, completed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `kernel` takes."""
    completed(
        parser.add_argument("what", metavar="RUN|RECIPE", help="a finished run, or a recipe to train there"), RUNS
    )
    add_competition(parser, default=None, text="the competition (default: the run's)")
    parser.add_argument("--gpu", action="store_true", help="ask for a GPU")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--push", action="store_true", help="send it to Kaggle, wait for its end, fetch its output")
    what.add_argument("--output", action="store_true", help="fetch what the notebook that was sent last has written")


def run(arguments: argparse.Namespace) -> int:
    """Make the folder; send it."""
    from featherweight import paths
    from featherweight.kaggle import kernel

    wish = kernel.wish(arguments.what, arguments.competition)
    if arguments.push or arguments.output:
        from featherweight.kaggle import push_kernel

        print(push_kernel.push(wish, gpu=arguments.gpu) if arguments.push else push_kernel.output(wish))
        return 0
    folder = kernel.write(wish, gpu=arguments.gpu)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"wrote {paths.shown(folder)} ({size / 2**20:.1f} MB): {wish.rules.minutes} minutes, no network")
    print(f"  {kernel.NOBODY} in it stands for your name on Kaggle; --push fills it in and sends it")
    gpu = " --gpu" if arguments.gpu else ""
    print(f"next: ./run.sh kernel {arguments.what} --competition {wish.competition_name}{gpu} --push")
    return 0
