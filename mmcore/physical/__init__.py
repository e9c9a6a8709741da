"""What the machine is made of: RAM, frames, zones, slab caches, page tables. Linux: mm/page_alloc.c, mm/slab.c."""
