"""`--picture PID:ADDRESS[@peak]`: takes pictures of reverse mapping while a run lasts.

    PID:ADDRESS        just before the process leaves its address space for good, by exit or by executing another
                       program (the last time counts), or at the end of the run when it still lives
    PID:ADDRESS@peak   when the least low memory is free: just before that grows again, or an address space ends

Looking changes nothing: no fault, no meter, no virtual time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from mmcore.errors import ConfigError, InvariantViolation
from mmcore.physical.pgtable import FILE, PRESENT
from sandbox.result import PageShown

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.memory import Memory
    from sandbox.kernel.kernel import Kernel
    from sandbox.kernel.task import Task

_REQUEST = re.compile(r"(\d+):(0x[0-9a-fA-F]+|\d+)(@peak)?", re.ASCII)
_NAMED = 6  # processes named where the one asked for is none of them


class PictureRequest(NamedTuple):
    """A page to draw: of process `pid`, the one at user `address`; `peak`: when least memory is free."""

    text: str
    pid: int
    address: int
    peak: bool


def parse_request(text: str) -> PictureRequest:
    """`PID:ADDRESS` or `PID:ADDRESS@peak`. Raises `ConfigError`."""
    match = _REQUEST.fullmatch(text)
    if match is None:
        raise ConfigError(f"--picture {text!r} is not PID:ADDRESS or PID:ADDRESS@peak, as in 2:0x8050000")
    address = int(match[2], 0) if match[2].startswith("0x") else int(match[2])
    if address >= 0xC0000000:
        raise ConfigError(f"--picture {text!r}: the address is the kernel's: a process has those below 0xc0000000")
    return PictureRequest(text, int(match[1]), address, match[3] is not None)


class PictureTaker:
    """Takes the pictures of one run. `ended` is told what the kernel's `mm_ended` is, `low` when free memory is
    about to grow from where it never was lower; `finish` is asked once, after the run."""

    def __init__(self, mem: Memory, kernel: Kernel, wanted: Sequence[str]) -> None:
        self.mem = mem
        self.kernel = kernel
        self.requests = [parse_request(text) for text in wanted]
        self._taken: dict[PictureRequest, PageShown] = {}
        self._lowest = mem.pages.min_free + 1  # frames; as pictures at the peak were last taken

    def ended(self, task: Task, mm: Mm, how: str) -> None:
        """The last task of an address space is about to leave it by `how`: "exit" or "exec"."""
        self.low()
        for request in self.requests:
            if not request.peak and request.pid == task.tgid:
                moment = f"as {task.comm}[{task.pid}] {'exits' if how == 'exit' else 'executes another program'}"
                self._taken[request] = self._take(request, mm, moment)

    def low(self) -> None:
        """Free memory may be at its lowest."""
        if self.mem.pages.min_free >= self._lowest:
            return
        self._lowest = self.mem.pages.min_free
        for request in self.requests:
            if request.peak:
                moment = f"when {self._lowest << 2} kB were free, the least ever"
                mm = self._space(request.pid)
                if mm is not None:
                    self._taken[request] = self._take(request, mm, moment)
                else:
                    reason = f"{moment}, there was no process {request.pid}"
                    self._taken[request] = PageShown(request.text, reason=reason)

    def finish(self, torn: bool) -> list[PageShown]:
        """All that was asked for, in that order. `torn`: the run was cut in the middle of a change."""
        known = {record.pid: record.comm for record in self.kernel.task_records()}
        if not torn:
            self.low()
        for request in self.requests:
            mm = self._space(request.pid)
            if request.pid not in known:
                processes = ", ".join(f"{pid} ({comm})" for pid, comm in list(known.items())[:_NAMED])
                more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
                reason = f"no process {request.pid} ran: there were {processes}{more}"
                self._taken[request] = PageShown(request.text, reason=reason)
            elif not request.peak and mm is not None and not torn:
                self._taken[request] = self._take(
                    request, mm, f"at the end of the run, in which {request.pid} lives on"
                )
            elif request not in self._taken:
                reason = "the run was cut short" if torn else f"process {request.pid} left its memory to another one"
                self._taken[request] = PageShown(request.text, reason=reason)
        return [self._taken[request] for request in self.requests]

    def _space(self, pid: int) -> Mm | None:
        """A living process's address space."""
        for task in self.kernel.tasks.values():
            if task.tgid == pid and task.mm is not None:
                mm: Mm = task.mm
                return mm
        return None

    def _take(self, request: PictureRequest, mm: Mm, moment: str) -> PageShown:
        found = self._frame(mm, request.address)
        if isinstance(found, str):
            return PageShown(request.text, reason=f"{moment}, {found}")
        try:
            picture = self.mem.rmap.picture(found)
        except (LookupError, AttributeError, InvariantViolation):  # the lowest point may lie inside a change
            return PageShown(request.text, reason=f"{moment}, the scheme was in the middle of a change")
        names: dict[int, str] = {}
        for task in self.kernel.tasks.values():
            if task.mm is not None:
                names.setdefault(task.mm.addr, f"{task.comm}[{task.tgid}]")
        return PageShown(request.text, moment, picture, names)

    def _frame(self, mm: Mm, address: int) -> int | str:
        """The frame at a user address (of a page that is swapped out, the one it still has in the swap cache), or why
        there is none."""
        mem, tables = self.mem, self.mem.pgtables
        at = mm.find_index(address)
        if at == len(mm.vmas) or mm.vmas[at].vm_start > address:
            lower, upper = mm.vmas[max(at - 1, 0) : at], mm.vmas[at : at + 1]
            near = " and ".join(f"{vma.vm_start:#x}-{vma.vm_end:#x}" for vma in (*lower, *upper))
            return f"no area held that address; the nearest were {near}" if near else "its memory was empty"
        index = tables.pte_index(mm.pgd, address)
        value = tables.ptes[index] if index >= 0 else 0
        if value & PRESENT:
            pfn = value >> 12 & tables.PFN_MASK
            return "the zero page was there, which reverse mapping does not count" if mem.is_reserved(pfn) else pfn
        if not value or value & FILE:
            return "no frame was mapped there: the page was never touched, or reclaim took it"
        cached = mem.swap.cache.get(tables.pte_to_swp(value), -1)
        return cached if cached >= 0 and mem.frames.mapcount[cached] else "the page was swapped out"
