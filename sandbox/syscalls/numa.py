"""move_pages, on a machine whose memory is one node, 0.

Natively a page that is to move to the node where it already is stays where it is. Here it moves to another frame all
the same: a program sees nothing of it but the frame number in /proc/PID/pagemap, and the reverse map is asked for every
PTE of the page, twice. Linux: mm/migrate.c, 6.18.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from mmcore.calls.migrate import migrate_page
from mmcore.errors import SysError
from mmcore.physical.pgtable import PRESENT
from sandbox.kernel.table import syscall
from sandbox.kernel.uaccess import copy_from_user, copy_to_user, get_user32, put_user32
from sandbox.syscalls.creds import may_look

if TYPE_CHECKING:
    from mmcore.areas.mm import Mm
    from mmcore.memory import Memory
    from sandbox.kernel.task import Task

MPOL_MF_MOVE, MPOL_MF_MOVE_ALL = 2, 4
NODE = 0
_CHUNK = 16  # addresses that are asked about at a time
_TRIES = 10


@syscall(317, "move_pages", 6)
def sys_move_pages(task: Task, pid: int, nr_pages: int, pages: int, nodes: int, status: int, flags: int) -> int:
    if flags & ~(MPOL_MF_MOVE | MPOL_MF_MOVE_ALL):
        raise SysError(errno.EINVAL)
    if flags & MPOL_MF_MOVE_ALL and task.euid:
        raise SysError(errno.EPERM)
    target = task if not pid else task.kernel.find_task(pid)
    if target is None:
        raise SysError(errno.ESRCH)
    if not may_look(task, target):
        raise SysError(errno.EPERM)
    if target.mm is None:
        raise SysError(errno.EINVAL)
    if nodes:
        _move(task, target.mm, nr_pages, pages, nodes, status, bool(flags & MPOL_MF_MOVE_ALL))
    else:
        _ask(task, target.mm, nr_pages, pages, status)
    return 0


def _page(mem: Memory, mm: Mm, address: int) -> int:
    """The frame at `address`. EFAULT: no area, or the zero page. ENOENT: nothing there."""
    vma = mm.find_vma(address)
    if vma is None or vma.vm_start > address:
        raise SysError(errno.EFAULT)
    i = mem.pgtables.pte_index(mm.pgd, address)
    pte = mem.pgtables.ptes[i] if i >= 0 else 0
    if not pte & PRESENT:
        raise SysError(errno.ENOENT)
    pfn = pte >> 12 & mem.pgtables.PFN_MASK
    if mem.is_reserved(pfn):
        raise SysError(errno.EFAULT)
    return int(pfn)


def _ask(task: Task, mm: Mm, nr: int, pages: int, status: int) -> None:
    """Where each page is. Linux: do_pages_stat."""
    for first in range(0, nr, _CHUNK):
        n = min(_CHUNK, nr - first)
        answers = []
        for address in struct.unpack(f"<{n}I", copy_from_user(task, pages + 4 * first, 4 * n)):
            try:
                _page(task.mem, mm, address)
                answers.append(NODE)
            except SysError as error:
                answers.append(-error.errno)
        copy_to_user(task, status + 4 * first, struct.pack(f"<{n}i", *answers))


def _move(task: Task, mm: Mm, nr: int, pages: int, nodes: int, status: int, everybody: bool) -> None:
    """Moves each page; one that several processes map only for `everybody`. Linux: do_pages_move."""
    for k in range(nr):
        address = get_user32(task, pages + 4 * k)
        if get_user32(task, nodes + 4 * k) != NODE:
            raise SysError(errno.ENODEV)
        answer = NODE
        try:
            pfn = _page(task.mem, mm, address)
            if everybody or task.mem.frames.mapcount[pfn] == 1:
                _move_page(task.mem, mm, address)
        except SysError as error:
            answer = -error.errno
        put_user32(task, status + 4 * k, answer & 0xFFFFFFFF)


def _move_page(mem: Memory, mm: Mm, address: int) -> None:
    """A page that cannot be moved stays: it is on the right node. I/O under way is waited for on the spot, as the call
    has begun to move others."""
    for _ in range(_TRIES):
        try:
            pfn = _page(mem, mm, address)
            migrate_page(mem, pfn)
            return
        except SysError as error:
            if error.errno != errno.EAGAIN:
                return
            mem.reclaim.wait_sync(mem.reclaim.page_wait(pfn))
