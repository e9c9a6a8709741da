"""The conformance suite: what `rmapbox schemes check` runs.

A check is a row of the table and a list of jobs; a job is a function that answers how many things it looked at and the
first failure. Each job runs in a process of its own with a deadline of processor time, as many at a time as there are
processors: a scheme that loops, eats memory or crashes fails its row and no other.

`quick` is the short form, in this process, for a scheme's own tests and for the mutation proof.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from mmcore.rmap import MachineFacts, WalkScheme
from sandbox.kit import contract
from sandbox.kit.processes import Late, in_processes
from sandbox.kit.replay import Cell, Failure, boot, failure_of, replay, shrink
from sandbox.kit.scenarios import FAILING, SCENARIOS, Script, failing_scene
from sandbox.kit.wander import wander

if TYPE_CHECKING:
    from mmcore.rmap import RmapScheme
    from sandbox.kit.world import World

OK, FAILED, NOT_APPLICABLE, NOT_EXACT, NOT_TRIED, NOT_FINISHED = (
    "ok",
    "FAILED",
    "not applicable",
    "not exact",
    "not tried",
    "not finished",
)
SEEDS, STEPS = 80, 150  # wanders per cell of the state machine, operations of each
WATCHED_SEEDS = 3
PAGINGS, MEMORIES = ("pae", "2level"), ("ample", "scarce")
_AMPLE = "64M"  # for a guest program
_JOB_SECONDS = 75.0  # of processor time: more than any job of a scheme that works takes on a slow machine
_SHRINK_SECONDS = 15.0
_LATE = 2  # jobs that do not end, after which no more are begun: a scheme that loops is to fail in minutes
_MANY = 400  # allocations of one operation; more is a loop


class Outcome(NamedTuple):
    """What a job found: how many things it looked at, the first failure, a note for the table."""

    looked_at: int
    failure: Failure | None = None
    note: str = ""


@dataclass
class CheckRow:
    """One check's line in the table."""

    name: str
    unit: str
    verdict: str = OK
    count: int = 0
    note: str = ""
    failures: list[Failure] = field(default_factory=list)


class Job(NamedTuple):
    row: str
    fn: Callable[[], Outcome]
    seconds: float = _JOB_SECONDS
    what: str = ""
    """What is run, where the row holds several: a program's name."""


@dataclass
class Report:
    """What came of it. `first` is the failure to show, made small."""

    rows: list[CheckRow]
    first: Failure | None
    seconds: float
    interrupted: bool = False

    @property
    def passed(self) -> bool:
        return not self.interrupted and all(row.verdict != FAILED for row in self.rows)


# --- the checks


def check_contract(kind: type[RmapScheme], options: dict[str, Any]) -> Outcome:
    count, first = 0, None
    try:
        for text in contract.points(kind, options):
            count += 1
            if text and first is None:
                first = Failure(("contract", text[:40]), text)
    except Exception as error:
        first = first or failure_of(error, kind)
    return Outcome(count, first)


def run_scenarios(kind: type[RmapScheme], cell: Cell, names: Sequence[str]) -> Outcome:
    """Directed runs, audited after every operation."""
    for done, name in enumerate(names):
        failure = attempt(kind, cell, lambda world, name=name: SCENARIOS[name](Script(world)))  # type: ignore[misc]
        if failure is not None:
            return Outcome(done + 1, failure, name.replace("_", " "))
    return Outcome(len(names))


def attempt(kind: type[RmapScheme], cell: Cell, act: Callable[[World], None]) -> Failure | None:
    """Boots, acts, looks at everything once more, and lets all exit, as the cell says; the failure, with the operations
    until then."""
    world = None
    try:
        world = boot(kind, cell)
        act(world)
        if cell.look:
            world.last_look()
        if cell.leave:
            world.leave()
    except (Exception, RecursionError) as error:
        return failure_of(error, kind, world.history if world is not None else (), cell)
    return None


def run_wanders(kind: type[RmapScheme], cell: Cell, seeds: Sequence[int], steps: int, until: float) -> Outcome:
    """The state machine: `steps` random operations per seed. No new seed is begun after `until` (monotonic time),
    but for the first."""
    for done, seed in enumerate(seeds):
        if done and time.monotonic() > until:
            return Outcome(done, None, f"stopped by --seconds before its {len(seeds)} seeds")
        world = None
        try:
            world = boot(kind, cell)
            wander(world, seed, steps)
        except (Exception, RecursionError) as error:
            return Outcome(
                done + 1, failure_of(error, kind, world.history if world is not None else (), cell), f"seed {seed}"
            )
    return Outcome(len(seeds))


def run_failures(kind: type[RmapScheme], cell: Cell, names: Sequence[str]) -> Outcome:
    """The n-th allocation of each operation fails, for n = 1, 2, ... until there is no n-th; once to be tried again,
    once to be given up."""
    count = 0
    for name in names:
        operation, arguments = FAILING[name]
        for n in range(1, _MANY):
            reached = False

            def act(world: World, n: int, operation: str = operation, arguments: tuple[int, ...] = arguments) -> None:
                nonlocal reached
                failing_scene(world)
                world.step(operation, *arguments, fail=n)
                reached = world.failed

            failure = attempt(kind, cell, lambda world, n=n: act(world, n))  # type: ignore[misc]
            if failure is None and reached:
                failure = attempt(kind, replace(cell, look=False), lambda world, n=n: act(world, -n))  # type: ignore[misc]
            if failure is not None:
                return Outcome(count + 1, failure, f"{name}, allocation {n}")
            if not reached:
                break
            count += 1
    return Outcome(count)


def incomplete(kind: type[RmapScheme], options: dict[str, Any]) -> str:
    """What the card says of pages that walks do not find: a state of history. Such pages stay in memory, so there must
    be enough of it."""
    return kind.configure(MachineFacts(), options).incomplete


def run_programs(
    names: Sequence[str], scheme: str, kind: type[RmapScheme], options: dict[str, Any], paging: str
) -> Outcome:
    from sandbox.kit.programs import try_program

    natively = 0
    for done, name in enumerate(names):
        try:
            failure, native = try_program(name, scheme, options, paging, _AMPLE if incomplete(kind, options) else "")
        except Exception as error:
            failure, native = failure_of(error, kind), False
            failure = Failure(failure.kind, f"{name}: {failure.text}")
        natively += native
        if failure is not None:
            return Outcome(done + 1, failure, name)
    return Outcome(len(names), None, "native" if natively == len(names) else "")


def at_hand(kind: type[RmapScheme], options: dict[str, Any]) -> int:
    """Objects a cache of the scheme keeps when all is over, at most 1: what a small life leaves (pte_chain keeps a node
    for the next fault)."""

    def life(world: World) -> None:
        script = Script(world)
        script.map(0, 1, 6)
        script.store(0, 1, 6)
        script.fork(0)
        script.fork(0)
        script.store(1, 2, 2)

    return 0 if attempt(kind, Cell(at_hand=0, options=options), life) is None else 1


# --- jobs


def _parts(names: Sequence[str], n: int) -> list[list[str]]:
    return [list(names[k::n]) for k in range(n)]


def jobs(
    scheme: str, kind: type[RmapScheme], options: dict[str, Any], until: float
) -> tuple[list[CheckRow], list[Job]]:
    """The table's rows and what has to be run for them."""
    walks = issubclass(kind, WalkScheme)
    lost = incomplete(kind, options)
    memories = MEMORIES[:1] if lost else MEMORIES
    keeps = next(in_processes([(lambda: at_hand(kind, options), _JOB_SECONDS)]))[1]
    keeps = keeps if keeps in (0, 1) else 1
    rows = [
        CheckRow("contract", "points"),
        CheckRow("hooks", "runs watched"),
        CheckRow("exact walks", "runs audited"),
        CheckRow("balance", "exits of all"),
        CheckRow("failures", "allocations failed"),
        CheckRow("programs", "programs"),
        CheckRow("state machine", f"programs of {STEPS} operations"),
    ]
    todo = [Job("contract", lambda: check_contract(kind, options))]
    names = list(SCENARIOS)
    for paging in PAGINGS:
        watched = Cell(paging, watch=True, at_hand=keeps, options=options)
        for part in _parts(names, 2):
            todo.append(Job("hooks", lambda cell=watched, part=part: run_scenarios(kind, cell, part)))  # type: ignore[misc]
        for memory in memories:
            cell = Cell(paging, memory, True, at_hand=keeps, options=options)
            seeds = range(1000, 1000 + WATCHED_SEEDS)
            todo.append(Job("hooks", lambda cell=cell, seeds=seeds: run_wanders(kind, cell, seeds, STEPS, until)))  # type: ignore[misc]
    for paging in PAGINGS:
        audited = Cell(paging, leave=False, options=options)
        left = Cell(paging, at_hand=keeps, options=options)
        if walks:
            todo.append(Job("exact walks", lambda cell=audited: run_scenarios(kind, cell, names)))  # type: ignore[misc]
        todo.append(Job("balance", lambda cell=left: run_scenarios(kind, cell, names)))  # type: ignore[misc]
        for part in _parts(list(FAILING), 2):
            todo.append(Job("failures", lambda cell=left, part=part: run_failures(kind, cell, part)))  # type: ignore[misc]
    if lost:
        rows[2].verdict, rows[2].note = (
            NOT_EXACT,
            f"as the card says: {lost}. All that they do find is right. All checks in ample memory",
        )
    if not walks:
        rows[2].verdict, rows[2].note = NOT_APPLICABLE, "the scheme scans, and has no walk"
    _program_jobs(rows[5], todo, scheme, kind, options)
    numbers = range(SEEDS)
    for k, (paging, memory) in enumerate((paging, memory) for paging in PAGINGS for memory in memories):
        cell = Cell(paging, memory, at_hand=keeps, options=options)
        for half in (0, 1):
            chosen = [100 * k + seed for seed in numbers[half::2]]
            limit = max(_JOB_SECONDS, until - time.monotonic() + _JOB_SECONDS)
            run = partial(run_wanders, kind, cell, chosen, STEPS, until)
            todo.append(Job("state machine", run, limit))
    return rows, todo


def _program_jobs(row: CheckRow, todo: list[Job], scheme: str, kind: type[RmapScheme], options: dict[str, Any]) -> None:
    from sandbox.kit import programs

    trouble = programs.available()
    if trouble:
        row.verdict, row.note = NOT_APPLICABLE, trouble
        return
    programs.native_works()  # asked once, before there are children who would each ask
    for paging in PAGINGS:
        for name in programs.PROGRAMS:
            todo.append(
                Job(
                    "programs",
                    lambda name=name, paging=paging: run_programs([name], scheme, kind, options, paging),  # type: ignore[misc]
                    what=f"{name} ({paging})",
                )
            )


# --- the whole


def run(
    scheme: str,
    kind: type[RmapScheme],
    options: dict[str, Any],
    seconds: float,
    tell: Callable[[int, int], None] | None = None,
) -> Report:
    """The whole suite for the scheme the user calls `scheme`. `seconds`: no wander is begun later; `tell(done,
    of)` after each job."""
    start = time.monotonic()
    rows, todo = jobs(scheme, kind, options, start + seconds)
    table = {row.name: row for row in rows}
    left = {row.name: [job for job in todo if job.row == row.name] for row in rows}
    parts = {name: len(of_row) for name, of_row in left.items()}
    done = late = native = 0
    interrupted = False
    answers = in_processes([(job.fn, job.seconds) for job in todo], lambda error: Outcome(1, failure_of(error, object)))
    try:
        for position, answer in answers:
            job = todo[position]
            left[job.row].remove(job)
            late += isinstance(answer, Late)
            native += _enter(table[job.row], job, answer)
            done += 1
            if tell is not None:
                tell(done, len(todo))
            if late >= _LATE:
                break
    except KeyboardInterrupt:
        interrupted = True
    finally:
        answers.close()
    for row in rows:
        if row.verdict == OK and left[row.name]:
            tried = parts[row.name] - len(left[row.name])
            row.verdict = NOT_FINISHED if tried else NOT_TRIED
            why = "interrupted" if interrupted else f"{late} jobs before did not end"
            row.note = f"{tried} of {parts[row.name]} parts were done: {why}" if tried else why
    if native and table["programs"].verdict == OK:
        table["programs"].note = f"{native} agree with the host's own kernel too"
    first = _first(rows)
    if first is not None and first.steps and not interrupted:
        first, interrupted = _small(kind, first)
    return Report(rows, first, time.monotonic() - start, interrupted)


def _enter(row: CheckRow, job: Job, answer: Outcome | Late | None) -> bool:
    """Puts a job's answer into its row; does it say that all agree with a native run?"""
    what = f"{job.what}: " if job.what else ""
    if answer is None:
        answer = Outcome(
            1,
            Failure(
                ("died", job.row),
                f"{what}the process that ran it died: the scheme crashed the interpreter, or ate all memory",
            ),
            job.what,
        )
    elif isinstance(answer, Late):
        answer = Outcome(
            1,
            Failure(("time", job.row), f"{what}does not end within {answer}: the scheme loops, or is far too slow"),
            job.what,
        )
    row.count += answer.looked_at
    if answer.failure is not None:
        row.verdict = FAILED
        row.failures.append(answer.failure)
    if answer.note == "native":
        return True
    if answer.note and (answer.failure is not None or not row.note):
        row.note = answer.note
    return False


def _small(kind: type[RmapScheme], big: Failure) -> tuple[Failure, bool]:
    """The failure made small, as far as Ctrl-C lets it: (it, was there one?)."""
    try:
        small = next(in_processes([(lambda: shrink(kind, big, _SHRINK_SECONDS), 3 * _SHRINK_SECONDS)]))[1]
    except KeyboardInterrupt:
        return big, True
    return small if isinstance(small, Failure) else big, False


def _first(rows: Sequence[CheckRow]) -> Failure | None:
    """The first failure of the table, one that can be done again if there is one."""
    failures = [failure for row in rows for failure in row.failures]
    return next((failure for failure in failures if failure.steps), failures[0] if failures else None)


# --- the quick form


def quick(
    kind: type[RmapScheme], options: dict[str, Any] | None = None, *, seeds: int = 3, small: bool = False
) -> Failure | None:
    """The first failure of a short form of the suite, in this process; None when all holds. `small`: made small first
    (some seconds)."""
    for failure in _quick(kind, options or {}, seeds):
        return shrink(kind, failure, _SHRINK_SECONDS) if small and failure.steps else failure
    return None


def _quick(kind: type[RmapScheme], options: dict[str, Any], seeds: int) -> Iterator[Failure]:
    outcome = check_contract(kind, options)
    keeps = at_hand(kind, options)
    if outcome.failure is not None:
        yield outcome.failure
    memories = (MEMORIES[0], MEMORIES[0]) if incomplete(kind, options) else MEMORIES
    cells = [Cell(paging, memory, at_hand=keeps, options=options) for paging in PAGINGS for memory in memories]
    half = list(SCENARIOS)
    runs: list[Callable[[], Outcome]] = [
        lambda: run_scenarios(kind, cells[0], half[::2]),
        lambda: run_scenarios(
            kind, Cell(watch=True, at_hand=keeps, options=options), ["inherited", *half[::9], "wide_and_deep"]
        ),
        lambda: run_failures(
            kind, cells[0], ["fork", "mremap of shared pages", "mprotect of a middle", "fault: a fresh area"]
        ),
        lambda: run_scenarios(kind, cells[2], half[1::2]),
        lambda: run_wanders(kind, cells[1], range(2), 120, time.monotonic() + 1e9),
        lambda: run_scenarios(kind, cells[0], half[1::2]),
        lambda: run_scenarios(kind, cells[2], half[::2]),
    ]
    for k, cell in enumerate(cells):
        numbers = range(10 * k, 10 * k + seeds)
        runs.append(partial(run_wanders, kind, cell, numbers, STEPS, time.monotonic() + 1e9))
    runs.append(
        lambda: run_wanders(
            kind, Cell(watch=True, at_hand=keeps, options=options), range(1), 120, time.monotonic() + 1e9
        )
    )
    for run_one in runs:
        found = run_one().failure
        if found is not None:
            yield found


__all__ = ["FAILED", "NOT_APPLICABLE", "OK", "Failure", "Report", "CheckRow", "quick", "replay", "run"]
