"""Limits on what a process takes: their numbers, and those a process starts with. Linux:
include/asm-generic/resource.h."""

from __future__ import annotations

(
    RLIMIT_CPU,
    RLIMIT_FSIZE,
    RLIMIT_DATA,
    RLIMIT_STACK,
    RLIMIT_CORE,
    RLIMIT_RSS,
    RLIMIT_NPROC,
    RLIMIT_NOFILE,
    RLIMIT_MEMLOCK,
    RLIMIT_AS,
    RLIMIT_LOCKS,
    RLIMIT_SIGPENDING,
    RLIMIT_MSGQUEUE,
    RLIMIT_NICE,
    RLIMIT_RTPRIO,
    RLIMIT_RTTIME,
) = range(16)
RLIM_INFINITY = (1 << 64) - 1


def default_rlimits() -> list[tuple[int, int]]:
    """(soft, hard) of a login on an ordinary Linux; memory limits unlimited, stack 8 MB."""
    limits = [(RLIM_INFINITY, RLIM_INFINITY)] * 16
    limits[RLIMIT_STACK] = (8 << 20, RLIM_INFINITY)
    limits[RLIMIT_CORE] = (0, RLIM_INFINITY)
    limits[RLIMIT_NPROC] = (32768, 32768)
    limits[RLIMIT_NOFILE] = (1024, 4096)
    limits[RLIMIT_MEMLOCK] = (64 << 10, 64 << 10)
    limits[RLIMIT_SIGPENDING] = (32768, 32768)
    limits[RLIMIT_MSGQUEUE] = (819200, 819200)
    limits[RLIMIT_NICE] = limits[RLIMIT_RTPRIO] = (0, 0)
    return limits
