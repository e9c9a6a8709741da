"""The files that the guest sees: paths, descriptors, pipes, /proc, tmpfs, and directories of the host."""
