"""Where the file system calls up into the kernel. A task of None stands for the machine itself: it gets no signals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.kernel.signals import send_task
from sandbox.kernel.signo import user_info

if TYPE_CHECKING:
    from sandbox.kernel.task import Task


def send_signal(task: Task | None, sig: int) -> None:
    """`sig` to the task itself (SIGPIPE, SIGXFSZ), as the kernel sends it."""
    if task is None:
        return
    send_task(task, user_info(sig, task.tgid, task.uid))
