"""The memory management of Linux 2.6, re-created in Python: it needs RAM and a clock, and no CPU.

From high to low, each room imports those below it:

    memory, audit   boots it all and keeps the low-memory account; invariants
    calls           what programs ask for: mmap, mremap, ...
    reclaim         who has to go when memory is short
    files, swap     where pages come from and go to
    paging          faults, fork, zap: page tables change
    rmap            the contract of schemes, and what the core does with a walk
    areas           vm_area_struct and mm_struct
    physical        RAM, frames, zones, slab, page tables
"""
