"""The few places where the file system calls up into the kernel, bound late so that it can be tested without one."""

from __future__ import annotations

from typing import Any


def send_signal(task: Any, sig: int) -> None:
    """``sig`` to the task itself (SIGPIPE, SIGXFSZ), as the kernel sends it."""
    if task is None:
        return
    from sandbox.kernel.signals import send_task
    from sandbox.kernel.signo import user_info

    send_task(task, user_info(sig, task.tgid, task.uid))
