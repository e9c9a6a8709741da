"""Address spaces and their areas: where they lie, how they are joined and split. Linux: mm/mmap.c, 2.6.7."""
