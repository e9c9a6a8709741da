"""Reverse mapping: the scheme interface (``scheme``), what the core does with the answers (``core``), finding plugins
(``registry``)."""

from mmcore.rmap.scheme import (
    AGAIN,
    ANSWER,
    COPY,
    FAIL,
    FORK,
    HIT,
    MISS,
    MOVE,
    OK,
    SPLIT,
    STOP,
    Card,
    Layout,
    MachineFacts,
    Purpose,
    RmapScheme,
    SchemeEnv,
    Visit,
)

__all__ = [
    "AGAIN",
    "ANSWER",
    "COPY",
    "FAIL",
    "FORK",
    "HIT",
    "MISS",
    "MOVE",
    "OK",
    "SPLIT",
    "STOP",
    "Card",
    "Layout",
    "MachineFacts",
    "Purpose",
    "RmapScheme",
    "SchemeEnv",
    "Visit",
]
