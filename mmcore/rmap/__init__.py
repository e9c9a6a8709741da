"""Reverse mapping, as a scheme sees it: everything a scheme imports of mmcore stands here.

 the contract   RmapScheme, WalkScheme, ScanScheme; Card, Setup, MachineFacts, SchemeEnv     (`scheme`)
 a walk         Walk, Visited, Purpose; what a visit answers; growing, showing               (`walk`)
 a drawing      Draft, Picture; searched, walked, search, offers                             (`picture`)
 the machine    Mm, VmArea, Zone; flags of frames and areas; IntervalTree; errors

What the core does with the answers is in `core`, `probe` and `by_file`.
"""

from mmcore.areas.mm import Mm
from mmcore.areas.vma import (
    FORK,
    MOVE,
    SPLIT,
    VM_LOCKED,
    VM_MAYSHARE,
    VM_NONLINEAR,
    VM_SHARED,
    VM_WRITE,
    VmArea,
    linear_page_index,
)
from mmcore.errors import InvariantViolation, OutOfMemory, PluginError
from mmcore.intervals import IntervalNode, IntervalTree
from mmcore.physical.frames import PG_ANON, PG_DIRECT, PG_RESERVED, PG_SWAPCACHE
from mmcore.physical.pgtable import A as ACCESSED
from mmcore.physical.zone import Zone
from mmcore.rmap.picture import FRAME, NEXT, ROOT, Draft, Edge, Node, Picture, offers, search, searched, walked
from mmcore.rmap.scheme import COPY, OK, Card, MachineFacts, RmapScheme, ScanScheme, SchemeEnv, Setup, WalkScheme
from mmcore.rmap.walk import (
    AGAIN,
    ANSWER,
    FAIL,
    HIT,
    MISS,
    STOP,
    Columns,
    Order,
    Purpose,
    Seen,
    Visited,
    Walk,
    growing,
    showing,
)

__all__ = [
    "ACCESSED",
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
    "PG_ANON",
    "PG_DIRECT",
    "PG_RESERVED",
    "PG_SWAPCACHE",
    "ROOT",
    "SPLIT",
    "STOP",
    "VM_LOCKED",
    "VM_MAYSHARE",
    "VM_NONLINEAR",
    "VM_SHARED",
    "VM_WRITE",
    "Card",
    "Columns",
    "Draft",
    "Edge",
    "IntervalNode",
    "IntervalTree",
    "InvariantViolation",
    "MachineFacts",
    "Mm",
    "Node",
    "Order",
    "OutOfMemory",
    "Picture",
    "PluginError",
    "Purpose",
    "RmapScheme",
    "ScanScheme",
    "SchemeEnv",
    "Seen",
    "Setup",
    "Visited",
    "VmArea",
    "Walk",
    "WalkScheme",
    "Zone",
    "growing",
    "linear_page_index",
    "offers",
    "search",
    "searched",
    "showing",
    "walked",
]
