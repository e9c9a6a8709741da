"""Reverse mapping: the scheme interface (``scheme``), what the core does with the answers (``core``), and the
drawing of a frame's way to its PTEs (``picture``)."""

from mmcore.areas.vma import FORK, MOVE, SPLIT
from mmcore.rmap.picture import FRAME, NEXT, ROOT, Draft, Edge, Node, Picture, offers, search, searched, walked
from mmcore.rmap.scheme import (
    COPY,
    OK,
    Card,
    MachineFacts,
    RmapScheme,
    ScanScheme,
    SchemeEnv,
    Setup,
    WalkScheme,
)
from mmcore.rmap.walk import AGAIN, ANSWER, FAIL, HIT, MISS, STOP, Purpose, Visited, Walk, growing, showing

__all__ = [
    "AGAIN",
    "ANSWER",
    "COPY",
    "FAIL",
    "FORK",
    "FRAME",
    "HIT",
    "MISS",
    "MOVE",
    "NEXT",
    "OK",
    "ROOT",
    "SPLIT",
    "STOP",
    "Card",
    "Draft",
    "Edge",
    "MachineFacts",
    "Node",
    "Picture",
    "Purpose",
    "RmapScheme",
    "ScanScheme",
    "SchemeEnv",
    "Setup",
    "Visited",
    "Walk",
    "WalkScheme",
    "growing",
    "showing",
    "offers",
    "search",
    "searched",
    "walked",
]
