"""When memory ran out, in a dozen lines, as a kernel's log has it."""

from __future__ import annotations

from mmcore.reclaim.oomreport import OomReport
from sandbox.config import format_size

_FLAGS = {
    0x20: "__GFP_HIGH",
    0xD0: "GFP_KERNEL",
    0xD2: "GFP_HIGHUSER",
    0x50: "GFP_NOFS",
    0x10: "GFP_NOIO",
}
_TASKS = 4


def oom_lines(report: OomReport) -> list[str]:
    """Who asked for what, the zones in kB, swap, the largest owners of low memory, the tasks of most badness."""
    flags = _FLAGS.get(report.gfp, "")
    what = f"order:{report.order}, mode:{report.gfp:#x}" + (f" ({flags})" if flags else "")
    lines = [f"{report.comm}[{report.pid}] at {report.virtual_ns / 1e9:.3f} s: no page, {what}"]
    for zone in report.zones:
        words = " ".join(
            f"{name}:{pages << 2}kB"
            for name, pages in (
                ("free", zone.free),
                ("min", zone.pages_min),
                ("low", zone.pages_low),
                ("high", zone.pages_high),
                ("kept", zone.kept),
                ("active", zone.active),
                ("inactive", zone.inactive),
                ("present", zone.present),
            )
        )
        lines.append(f"{zone.name} {words}" + (" all_unreclaimable" if zone.all_unreclaimable else ""))
    lines.append(f"swap free:{report.swap_free << 2}kB of {report.swap_total << 2}kB")
    owners = ", ".join(f"{name} {format_size(size)}" for name, size in report.owners.items())
    lines.append(f"low memory: {owners}")
    lines += [
        f"{task.comm}[{task.pid}] size:{task.total_vm << 2}kB resident:{task.rss << 2}kB badness:{task.points}"
        for task in report.tasks[:_TASKS]
    ]
    lines.append("killed nobody" if report.killed is None else f"killed {report.killed}")
    return lines
