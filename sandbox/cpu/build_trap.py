"""Build `sandbox.cpu._trap`, the C trap loop, with cffi in API mode.

`python sandbox/cpu/build_trap.py` compiles it in place, beside its source; setuptools does it at install. The module
links against nothing but libc: the addresses of Unicorn's functions are given to it at run time (see unicorn_api.py).
"""

import shutil
import tempfile
from pathlib import Path

from cffi import FFI

here = Path(__file__).resolve().parent

ffi = FFI()
ffi.cdef(
    """
    struct offsets { uint32_t gpr, eip, eflags, cr2, cr3, fs, error_code, is_int, old_exception; };
    struct task { uint32_t regs[16]; uint8_t *saved; };
    struct cpu {
        const uint8_t *gdt; uint32_t gdt_entries; uint32_t idle_cr3; uint32_t loaded_cr3;
        int32_t flush_tlb, flush_code; size_t context_size; int32_t uc_error;
        int64_t blocks; uint32_t fault_address, error_code, vector; uint32_t *pages; uint32_t page_count; ...;
    };
    void trap_load_api(void **address);
    size_t trap_api_entries(void);
    void trap_set_offsets(const struct offsets *);
    struct cpu *trap_open(void *uc, int note_pages);
    void trap_close(struct cpu *);
    struct task *trap_task_new(struct cpu *);
    void trap_task_free(struct task *);
    void trap_task_copy(struct cpu *, struct task *to, const struct task *from);
    int trap_task_save(struct cpu *, struct task *);
    int trap_task_reg_read(struct task *, int reg, void *value);
    int trap_task_reg_write(struct task *, int reg, const void *value);
    int trap_run(struct cpu *, struct task *, uint32_t cr3, int64_t budget);
    int trap_probe(struct cpu *, struct task *, uint32_t eip);
    uint32_t trap_drain_pages(struct cpu *, uint32_t *out);

    struct x87_offsets { uint32_t top, status, control, tags, registers, flags; };
    size_t x87_helper_count(void);
    const char *x87_helper(size_t);
    void x87_load(void **address);
    void x87_set_offsets(const struct x87_offsets *);
    uint8_t *x87_last_caller(void);
    """
)
source = "".join((here / name).read_text() for name in ("trap.c", "x87.c"))
ffi.set_source("sandbox.cpu._trap", source, extra_compile_args=["-O2", "-fno-strict-aliasing"])

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copy(ffi.compile(tmpdir=scratch), here)
