"""Rate and time left, on a clock that the test turns."""

import re

import pytest

from featstore import progress


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def lines(clock, capsys, steps):
    """Return what is written when ``(seconds, done, total)`` happen one after the other."""
    with progress.shown("rows") as update:
        for seconds, done, total in steps:
            clock.now += seconds
            update(done, total)
    return capsys.readouterr().err.splitlines()


def test_shown__rate_and_time_left(clock, capsys):
    assert lines(clock, capsys, [(100, 500, 1000)]) == ["500/1,000 rows, 5.0/s, 100 s left"]


def test_shown__a_new_pass_is_timed_anew(clock, capsys):
    steps = [(1000, 1000, 1000), (50, 500, 1000), (50, 1000, 1000), (40, 800, 1000)]
    rates = [re.search(r"[\d.]+/s.*", line)[0] for line in lines(clock, capsys, steps)]
    assert rates == [
        "1.0/s, 0 s left",
        "10.0/s, 50 s left",
        "10.0/s, 0 s left",
        "20.0/s, 10 s left",
    ]


def test_shown__passes_of_one_step(clock, capsys):
    steps = [(100, 1000, 1000), (50, 1000, 1000)]
    assert lines(clock, capsys, steps)[1] == "1,000/1,000 rows, 20.0/s, 0 s left"


def test_shown__nothing_done_has_no_time_left(clock, capsys):
    assert lines(clock, capsys, [(60, 0, 10)]) == ["0/10 rows, 0.0/s"]


def test_shown__seldom(clock, capsys):
    steps = [(1, done, 100) for done in range(1, 61)]
    assert [line.split()[0] for line in lines(clock, capsys, steps)] == ["30/100", "60/100"]


def test_shown__on_a_terminal(clock, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with progress.shown("rows") as update:
        clock.now = 10.0
        update(50, 100)
    assert "rows, 5.0/s, 10 s left" in capsys.readouterr().err
