"""The C programs that run inside, and what they are built with.

    NAME.c      one program for one behaviour; it opens with a card: name, summary, drives, arguments (name=default),
                look at
    common/     <rmapbox.h>: what the programs share, header only
    runtime/    start code and a small C library for i386, so that a gcc without 32-bit libraries can build them
    bin/        the programs compiled, in a wheel built where a compiler was at hand

A program prints only what it decides itself (no address, pid, time, residency or inode number), so that its output on
the host and in the sandbox is the same, and it ends with status 0 when everything it verified was right.
`sandbox.toolchain` finds, reads and compiles them; this package holds no code.
"""
