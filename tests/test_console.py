"""What is shown while a person waits, in a terminal and outside one."""

import io

import pytest
from rich.console import Console
from rich.table import Column, Table

from featherweight import console


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 seconds"),
        (0.7, "1 second"),
        (42.4, "42 seconds"),
        (100, "1.7 minutes"),
        (600, "10 minutes"),
        (39_600, "11.0 hours"),
        (260_000, "3.0 days"),
    ],
)
def test_a_time_is_said_in_the_unit_that_people_use(seconds, words):
    assert console.duration(seconds) == words


@pytest.mark.parametrize(
    ("per_second", "words"),
    [(4242.0, "4,242 images/s"), (1.0, "1.0 images/s"), (0.125, "8.0 s/image"), (0, "- images/s")],
)
def test_slow_work_is_shown_in_seconds_per_unit(per_second, words):
    assert console.rate(per_second, "images") == words


def test_outside_a_terminal_there_is_a_line_every_minute(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.hushed(), console.Progress("train", 100, "steps") as bar:
        console.say("hushed")
        bar.resume(10)
        for _ in range(30):
            now[0] += 8.0
            bar.advance(1)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3  # after 64, 128 and 192 seconds
    assert lines[0] == "  train: 18 of 100 steps, 8.0 s/step, 11 minutes left"


def test_short_work_prints_nothing_outside_a_terminal(capsys):
    with console.Progress("decode", 10, "images") as bar:
        bar.update(10)
    assert capsys.readouterr().out == ""


def test_a_table_keeps_its_columns_in_a_narrow_terminal(monkeypatch):
    table = Table("key", "meaning", Column("value", no_wrap=True))
    table.add_row("optimizer.lr", "how far a step goes", "69.23 [61.31, 76.38]")
    narrow = Console(file=io.StringIO(), width=12)
    monkeypatch.setattr(console, "console", narrow)
    console.show_table(table)
    assert "optimizer.lr" in narrow.file.getvalue()
    assert "69.23 [61.31, 76.38]" in narrow.file.getvalue()
    assert "how far a step goes" in narrow.file.getvalue()
