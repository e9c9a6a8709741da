"""Kinds of trap, as `Cpu.run` returns them: small integers, fit to index a table of handlers.

| kind | means | EIP | Linux sends |
|---|---|---|---|
| SYSCALL | `int 0x80` | after it | - |
| PAGE_FAULT | #PF; `cpu.fault_address`, `cpu.error_code` | at the instruction | decided by the kernel |
| PROTECTION | #GP, privileged instructions, `int n` without a user gate, `in`/`out`, `rdtsc` | at | SIGSEGV |
| ILLEGAL | #UD, `sysenter`, `syscall` | at | SIGILL |
| DIVIDE | #DE | at | SIGFPE |
| BREAKPOINT | `int3` | after | SIGTRAP |
| OVERFLOW | `into` | after | SIGSEGV |
| BUDGET | the slice of basic blocks is used up | at the next block | - |
| BAD_INT | an exception without a kind of its own (#BR, #NP, #SS, ...); `cpu.vector` | at | by vector |
| FPU | #MF, #XM | at | SIGFPE |
| ALIGNMENT | #AC | at | SIGBUS |
| DEBUG | #DB, a single step under TF | after the step | SIGTRAP |

insn.py tells apart what raises PROTECTION. Linux: arch/i386/kernel/traps.c, 2.6.7.
"""

SYSCALL = 0
PAGE_FAULT = 1
PROTECTION = 2
ILLEGAL = 3
DIVIDE = 4
BREAKPOINT = 5
OVERFLOW = 6
BUDGET = 7
BAD_INT = 8
FPU = 9
ALIGNMENT = 10
DEBUG = 11

NAMES = (
    "SYSCALL",
    "PAGE_FAULT",
    "PROTECTION",
    "ILLEGAL",
    "DIVIDE",
    "BREAKPOINT",
    "OVERFLOW",
    "BUDGET",
    "BAD_INT",
    "FPU",
    "ALIGNMENT",
    "DEBUG",
)

# bits of a page fault's error code
PF_PROT, PF_WRITE, PF_USER, PF_RSVD, PF_INSTR = 1, 2, 4, 8, 16
