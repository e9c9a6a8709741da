"""Who has to go when memory is short: pages (vmscan, scan24), then tasks (oom). Linux: mm/vmscan.c, 2.6.7."""
