"""Pages that have a slot on the swap device: their cache, and the device. Linux: mm/swap_state.c, mm/swapfile.c."""
