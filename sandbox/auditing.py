"""`--audit full`: the auditor looks in after every fork, exec, exit, mremap and reclaim pass.

It looks where everything is settled: just before guest code runs again. So it stands in the processor's doorway and
reads counters that the machine keeps anyway; a run without it pays nothing, and neither virtual time nor the event hash
can tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from mmcore.audit import Auditor
from sandbox.kernel.table import EVENT_SYSCALL

if TYPE_CHECKING:
    from sandbox.cpu.cpu import Cpu
    from sandbox.kernel.kernel import Kernel, Trapped

FORK, EXECVE, CLONE, MREMAP, VFORK = 2, 11, 120, 163, 190
_WATCHED = {EVENT_SYSCALL >> 32 | nr for nr in (FORK, EXECVE, CLONE, MREMAP, VFORK)}


class AuditingCpu:
    """A processor that audits `mem` before it runs guest code, whenever something has happened that is worth it.

    Everything else is the real `cpu`'s. Raises InvariantViolation out of the function of `door`.
    """

    def __init__(self, cpu: Cpu, auditor: Auditor, kernel: Callable[[], Kernel]) -> None:
        """`kernel()` is asked once guest code runs: the kernel is made after its processor."""
        self._cpu = cpu
        self._auditor = auditor
        self._seen = (0, 0, 0, 0)
        self._kernel = kernel
        self.new_context, self.lost, self.set_tls = cpu.new_context, cpu.lost, cpu.set_tls
        self.code_pages, self.flush_tlb, self.flush_code = cpu.code_pages, cpu.flush_tlb, cpu.flush_code

    def door(self) -> tuple[Callable[..., int], Trapped]:
        """As the processor's, with the audit in front of each run."""
        run, state = self._cpu.door()

        def audited(*arguments: object) -> int:
            where = self._happened()
            if where:
                self._auditor.require(where)
            return run(*arguments)

        return audited, state

    def _happened(self) -> str:
        """What has happened since the last look, "" for nothing."""
        kernel = self._kernel()
        vmstat = kernel.mem.vmstat
        now = (kernel.total_forks, len(kernel.records), vmstat.pageoutrun, vmstat.allocstall)
        before, self._seen = self._seen, now
        if now != before:
            return "after " + ", ".join(
                name
                for name, old, new in zip(("a fork", "an exit", "a pass of kswapd", "direct reclaim"), before, now)
                if old != new
            )
        events = kernel.events.events
        if events and events[-1] >> 32 in _WATCHED:
            return f"after system call {events[-1] >> 32 & 0xFFFF}"
        return ""


def pinned(kernel: Kernel) -> dict[int, int]:
    """frame -> pins held by system calls under way, for the auditor."""
    return Counter(pfn for task in kernel.tasks.values() for pfn in task.pins)
