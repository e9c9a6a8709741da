"""Page tables change: by faults, by fork, by what takes mappings away. Linux: mm/memory.c, kernel/fork.c, 2.6.7."""
