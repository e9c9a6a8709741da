"""A row of the table: two measures, the bound and the goal they are held to, and whether they hold."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Samples = dict[str, list[float]]
LATE = 2.0  # a row this many times beyond its bound fails the run


@dataclass(frozen=True)
class Figure:
    """One figure. `here` and `other` name measures (seconds unless `unit` says otherwise); with `judged`
    "ratio" what is judged is here / other, with "here" it is the figure itself. `rate`: more is better. Without
    `bound` the row is shown and not judged."""

    group: str
    name: str
    text: str
    here: str
    other: str = ""
    bound: float | None = None
    goal: float | None = None
    unit: str = "us"
    judged: str = "ratio"
    rate: bool = False
    against: str = "native"


# unit -> (factor from the measure's own unit, digits)
_UNITS = {"us": (1e6, 2), "ms": (1e3, 2), "s": (1, 3), "ns": (1e9, 1), "MB": (1 / (1 << 20), 0), "/s": (1, 0)}


@dataclass
class FigureOutcome:
    """Medians over the rounds; `ratio` is the median of the rounds' own ratios, since only what was measured side by
    side compares."""

    row: Figure
    here: float
    other: float | None
    ratio: float | None
    rounds: int
    detail: dict[str, list[float]] = field(default_factory=dict)

    @property
    def figure(self) -> float | None:
        """What is judged, in the unit of the bound."""
        if self.row.judged == "ratio":
            return self.ratio
        return self.here * _UNITS[self.row.unit][0]

    @property
    def verdict(self) -> str:
        """goal, ok (within the bound), MISS, LATE (twice the bound), or nothing for a row without one."""
        figure, bound, goal = self.figure, self.row.bound, self.row.goal
        if figure is None or bound is None:
            return ""
        if self.row.rate:
            figure, bound, goal = 1 / figure, 1 / bound, None if goal is None else 1 / goal
        if goal is not None and figure <= goal:
            return "goal"
        if figure <= bound:
            return "ok"
        return "MISS" if figure <= bound * LATE else "LATE"

    def shown(self, value: float | None) -> str:
        """A measure with its unit."""
        if value is None:
            return ""
        factor, digits = _UNITS[self.row.unit]
        return f"{value * factor:,.{digits}f} {self.row.unit}"

    def limit(self, value: float | None) -> str:
        """A bound or a goal, with its unit."""
        if value is None:
            return ""
        return f"{value:g} x" if self.row.judged == "ratio" else f"{value:,g} {self.row.unit}"

    def as_dict(self) -> dict[str, object]:
        row = self.row
        return {
            "group": row.group,
            "name": row.name,
            "text": row.text,
            "here": self.here,
            "other": self.other,
            "against": row.against if row.other else None,
            "ratio": self.ratio,
            "bound": row.bound,
            "goal": row.goal,
            "judged": row.judged,
            "unit": row.unit,
            "verdict": self.verdict,
            "rounds": self.detail,
        }


def outcome(row: Figure, samples: Samples) -> FigureOutcome | None:
    """The row's figures, or None when one of its measures could not be taken."""
    here, other = samples.get(row.here), samples.get(row.other) if row.other else None
    if not here or (row.other and not other):
        return None
    ratios = [a / b for a, b in zip(here, other) if b] if other else []
    detail = {row.here: here} | ({row.other: other} if other else {})
    return FigureOutcome(
        row,
        statistics.median(here),
        statistics.median(other) if other else None,
        statistics.median(ratios) if ratios else None,
        len(here),
        detail,
    )


_HEAD = ("", "figure", "here", "other side", "", "ratio", "bound", "goal", "")


def _cells(result: FigureOutcome) -> tuple[str, ...]:
    row = result.row
    ratio = f"{result.ratio:.2f}" if result.ratio is not None else ""
    return (
        row.group,
        row.text,
        result.shown(result.here),
        result.shown(result.other),
        row.against if row.other else "",
        ratio,
        result.limit(row.bound),
        result.limit(row.goal),
        result.verdict,
    )


def render(results: Sequence[FigureOutcome]) -> str:
    """The table for a terminal."""
    lines = [_HEAD, *map(_cells, results)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(_HEAD))]
    right = {2, 3, 5, 6, 7}
    shown = [
        "  ".join(
            cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths))
        ).rstrip()
        for line in lines
    ]
    return "\n".join(shown)


def render_markdown(results: Sequence[FigureOutcome]) -> str:
    """The table for a document."""
    lines = [
        ("row", "figure", "here", "other side", "which is", "ratio", "bound", "goal", "verdict"),
        ("---",) * 9,
        *map(_cells, results),
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def collect(
    measures: dict[str, Callable[[], float]], rounds: int, tell: Callable[[str], None], prepare: Callable[[], None]
) -> Samples:
    """Every measure once a round, all of them before any again, so that both sides of a ratio see the same machine;
    `prepare` goes before each."""
    samples: Samples = {}
    for number in range(rounds):
        for name, measure in measures.items():
            tell(f"round {number + 1}/{rounds}: {name}")
            prepare()
            samples.setdefault(name, []).append(measure())
    return samples
