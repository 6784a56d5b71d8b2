"""The benchmarks of speed and memory: what they conclude, not how long anything takes."""

import pytest
from benchmarks.gpu import floor
from benchmarks.performance import _curves, _errors
from benchmarks.performance._rounds import medians, noise, verdict
from benchmarks.performance._tables import PARTS, tables


def test_verdicts_follow_the_limit():
    assert verdict("a", "b", 1.0, 1.0)["verdict"] == verdict("a", "b", 1.0, 1.0, at_least=True)["verdict"] == "holds"
    assert verdict("a", "b", 1.1, 1.0)["verdict"] == verdict("a", "b", 0.9, 1.0, at_least=True)["verdict"] == "missed"
    assert verdict("a", "b", 5.0, None)["verdict"] == ""


def test_all_take_turns_and_the_first_round_may_not_count():
    calls = []
    seconds = medians({"one": lambda: calls.append(1), "two": lambda: calls.append(2)}, rounds=2)
    assert calls == [1, 2] * 3
    assert set(seconds) == {"one", "two"}
    medians({"one": lambda: calls.append(3)}, rounds=2, warm=False)
    assert calls.count(3) == 2


@pytest.mark.parametrize(("power", "column"), [(1.0, "seconds"), (2.0, "MB")])
def test_exponents_are_those_of_the_growth(power, column):
    curve = [{"size": size, column: 3.0 * size**power} for size in (1, 10, 40)]
    assert _curves.exponent(curve, column) == pytest.approx(power)


def test_an_epoch_is_measured_and_the_curves_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(_curves, "N_PROFILES", 60)
    monkeypatch.setattr(_curves, "N_LANDMARKS", 5)
    monkeypatch.setattr(_curves, "N_TARGETS", 7)
    monkeypatch.setattr(_curves, "N_UNITS", 4)
    monkeypatch.setattr(_curves, "in_new_process", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(_curves, "GROWTH", {"profiles": (50, 60), "targets": (7, 9), "units": (4, 8)})
    monkeypatch.setattr(_curves, "most_resident", lambda: 1e6)
    rows = [row | {"run": {"processor": "Fast(R) Processor"}} for row in _curves.cases()]
    assert [row["case"] for row in rows] == [f"growth with {what}" for what in _curves.GROWTH for _ in range(2)]
    assert all(point["seconds"] > 0 for row in rows for point in row["curve"])
    _curves.draw(rows, tmp_path / "growth.svg")
    assert (tmp_path / "growth.svg").stat().st_size > 10_000


def test_every_case_has_a_line_in_one_table_with_all_processors():
    cases = [
        "training a",
        "small fit",
        "grid search",
        "memory of fit",
        "normalizer",
        "KNN-GE",
        "import",
        "growth with x",
    ]
    of_one = [verdict(case, f"what of {case}", 0.1234, 1.0, run={"processor": "One"}) for case in cases]
    of_other = verdict("training a", "what of training a", 3.0, 1.0, run={"processor": "Other(R) Processor"})
    made = tables([*of_one, of_other])
    assert made["performance_training"].startswith("| case | what | asked | One | Other |")
    assert set(made) == set(PARTS)
    for case in cases:
        line = f"| {case} | what of {case} | at most 1 | 0.123 x holds |"
        assert sum(line in table for table in made.values()) == 1
    assert "| 0.123 x holds | 3 x missed |" in made["performance_training"]
    assert "| 0.123 x holds |  |" in made["performance_training"]


def test_noise_is_drawn_in_blocks():
    assert noise(2500, 3).std() == pytest.approx(1.0, abs=0.05)
    assert noise(2500, 3, dtype=float).dtype == float


def test_the_floor_of_a_step_counts_what_cannot_be_avoided():
    limits = {"float32": 2.0, "bytes per second": 4.0}
    least = floor([2, 3, 4], 5, "float32", limits)
    forward, weights = 2 * 5 * (6 + 12), 2 * 5 * (6 + 12)
    assert least["floor by FLOPs"] == (forward + weights + 2 * 5 * 12) / 2.0
    updates, products = 4 * (6 + 12), (6 + 12) + 12  # weights and momentum, read and written; backpropagation of one
    assert least["floor by bytes"] == updates + products + 5 * (2 + 4)


def test_errors_of_epochs_are_measured():
    seconds, monitored, both = _errors.shares((4,), 200, 6)
    assert seconds > 0
    assert monitored > -1
    assert both > -1
