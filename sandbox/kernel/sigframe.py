"""Signal frames on the guest's stack, as i386 Linux lays them out, and the way back from them.

 sigframe (no SA_SIGINFO)          rt_sigframe                            above it, 64-byte aligned
   +0  return address                +0   return address                    fpstate: 112 bytes of the FSAVE form,
   +4  signal                        +4   signal                            then the 512-byte FXSAVE image
   +8  sigcontext (88 bytes)         +8   &siginfo, +12 &ucontext
  +96  unused fpstate (624)         +16   siginfo (128)
 +720  second word of the mask     +144   ucontext: flags, link, stack, sigcontext, mask (116)
 +724  8 bytes of code             +260   8 bytes of code

Linux: arch/i386/kernel/signal.c, 2.6.7; position and alignment of the frame and of fpstate as current kernels do for
32-bit tasks (arch/x86/kernel/signal.c, fpu/signal.c). The handler returns through SA_RESTORER or the trampolines in the
page at 0xffffe000.
"""

from __future__ import annotations

import errno
import struct

from mmcore.errors import SysError
from sandbox.cpu.regs import CS, DS, EAX, EBP, EBX, ECX, EDI, EDX, EFLAGS, EIP, ES, ESI, ESP, FS, GS, SS
from sandbox.kernel.signo import (
    MINSIGSTKSZ,
    SA_NODEFER,
    SA_ONSTACK,
    SA_RESTORER,
    SA_SIGINFO,
    SS_AUTODISARM,
    SS_DISABLE,
    SS_ONSTACK,
    SigInfo,
)
from sandbox.kernel.task import SigAction, Task
from sandbox.kernel.uaccess import copy_from_user, copy_to_user

TRAMPOLINE_PAGE = 0xFFFFE000
SIGRETURN_TRAMPOLINE = TRAMPOLINE_PAGE + 0x400
RT_SIGRETURN_TRAMPOLINE = TRAMPOLINE_PAGE + 0x440
# pop %eax; mov $119,%eax; int $0x80      mov $173,%eax; int $0x80
SIGRETURN_CODE = b"\x58\xb8\x77\0\0\0\xcd\x80"
RT_SIGRETURN_CODE = b"\xb8\xad\0\0\0\xcd\x80\0"

USER_CS, USER_DS = 0x73, 0x7B
FIX_EFLAGS = 0x50DD5  # AC OF DF TF SF ZF AF PF CF RF: what sigreturn takes from the frame
DF, RF, TF = 0x400, 0x10000, 0x100
FPSTATE = 624
SIGFRAME = 732
RT_SIGFRAME = 268
_SIGCONTEXT = struct.Struct("<4I 8I 2I 4I 4I")


def trampoline_page() -> bytes:
    """Contents of the user-executable page that holds the two ways out of a handler without SA_RESTORER."""
    page = bytearray(4096)
    page[0x400 : 0x400 + len(SIGRETURN_CODE)] = SIGRETURN_CODE
    page[0x440 : 0x440 + len(RT_SIGRETURN_CODE)] = RT_SIGRETURN_CODE
    return bytes(page)


def on_sig_stack(task: Task, sp: int) -> bool:
    if task.sas_ss_flags & SS_AUTODISARM:
        return False
    return 0 < sp - task.sas_ss_sp <= task.sas_ss_size


def sas_ss_flags(task: Task, sp: int) -> int:
    if not task.sas_ss_size:
        return SS_DISABLE
    return SS_ONSTACK if on_sig_stack(task, sp) else 0


def _sigcontext(task: Task, fpstate: int, mask: int) -> bytes:
    r = task.regs
    return _SIGCONTEXT.pack(
        r[GS],
        r[FS],
        r[ES],
        r[DS],
        r[EDI],
        r[ESI],
        r[EBP],
        r[ESP],
        r[EBX],
        r[EDX],
        r[ECX],
        r[EAX],
        task.trap_no,
        task.error_code,
        r[EIP],
        r[CS],
        r[EFLAGS],
        r[ESP],
        r[SS],
        fpstate,
        mask & 0xFFFFFFFF,
        task.cr2,
    )


def _fpstate(task: Task) -> bytes:
    """_fpstate_32: the environment in FSAVE's form, then the FXSAVE image (magic 0 says that it is there)."""
    fx = task.ctx.fpu_state()
    cw, sw, tags = struct.unpack_from("<HHB", fx, 0)
    fip, fcs, fdp, fds = struct.unpack_from("<IHxxIH", fx, 8)
    head = struct.pack(
        "<7I", cw | 0xFFFF0000, sw | 0xFFFF0000, _full_tags(fx, sw, tags) | 0xFFFF0000, fip, fcs, fdp, fds | 0xFFFF0000
    )
    stack = b"".join(fx[32 + 16 * i : 42 + 16 * i] for i in range(8))
    return head + stack + struct.pack("<HH", sw, 0) + fx


def _full_tags(fx: bytes, sw: int, tags: int) -> int:
    """The 16-bit tag word from FXSAVE's one bit per register. Linux: twd_fxsr_to_i387."""
    top = sw >> 11 & 7
    full = 0
    for i in range(8):
        tag = 3
        if tags >> i & 1:
            at = 32 + 16 * ((i - top) & 7)
            mantissa, exponent = struct.unpack_from("<QH", fx, at)
            exponent &= 0x7FFF
            if exponent == 0x7FFF:
                tag = 2
            elif exponent == 0:
                tag = 2 if mantissa else 1
            else:
                tag = 0 if mantissa >> 63 else 2
        full |= tag << 2 * i
    return full


def setup_frame(task: Task, info: SigInfo, action: SigAction) -> None:
    """Builds the frame and points the registers at the handler. Raises SysError(EFAULT) when there is no room for it
    (the caller sends SIGSEGV) and MustWait; in both cases nothing has changed but memory below the stack."""
    regs = task.regs
    sp = regs[ESP]
    nested = on_sig_stack(task, sp)
    switched = False
    if action.flags & SA_ONSTACK:
        if sas_ss_flags(task, sp) == 0:
            sp = task.sas_ss_sp + task.sas_ss_size
            switched = True
    elif regs[SS] & 0xFFFF != USER_DS and not action.flags & SA_RESTORER and action.restorer:
        sp = action.restorer  # the old way to name a signal stack
    rt = bool(action.flags & SA_SIGINFO)
    fx = (sp - 512) & ~63
    fpstate = fx - 112
    frame = ((fpstate - (RT_SIGFRAME if rt else SIGFRAME) + 4) & ~15) - 4
    if frame < 0 or ((nested or switched) and not task.sas_ss_flags & SS_AUTODISARM and frame <= task.sas_ss_sp):
        raise SysError(errno.EFAULT)
    mask = task.saved_sigmask if task.saved_sigmask is not None else task.blocked
    context = _sigcontext(task, fpstate, mask)
    sig = info.sig
    if rt:
        restorer = action.restorer if action.flags & SA_RESTORER else RT_SIGRETURN_TRAMPOLINE
        stack = struct.pack("<3I", task.sas_ss_sp, task.sas_ss_flags | sas_ss_flags(task, regs[ESP]), task.sas_ss_size)
        data = b"".join(
            (
                struct.pack("<4I", restorer, sig, frame + 16, frame + 144),
                info.pack(),
                bytes(8),
                stack,
                context,
                struct.pack("<Q", mask),
                RT_SIGRETURN_CODE,
            )
        )
        edx, ecx = frame + 16, frame + 144
    else:
        restorer = action.restorer if action.flags & SA_RESTORER else SIGRETURN_TRAMPOLINE
        data = b"".join(
            (struct.pack("<2I", restorer, sig), context, bytes(FPSTATE), struct.pack("<I", mask >> 32), SIGRETURN_CODE)
        )
        edx = ecx = 0
    copy_to_user(task, fpstate, _fpstate(task))
    copy_to_user(task, frame, data)
    if task.sas_ss_flags & SS_AUTODISARM and rt:
        task.sas_ss_sp = task.sas_ss_size = 0
        task.sas_ss_flags = SS_DISABLE
    regs[ESP] = frame
    regs[EIP] = action.handler
    regs[EAX] = sig
    regs[EDX] = edx
    regs[ECX] = ecx
    regs[DS] = regs[ES] = regs[SS] = USER_DS
    regs[CS] = USER_CS
    regs[EFLAGS] &= ~(DF | RF | TF)


def handler_mask(task: Task, info: SigInfo, action: SigAction) -> int:
    """Blocked signals while the handler runs."""
    mask = task.blocked | action.mask
    return mask if action.flags & SA_NODEFER else mask | 1 << info.sig - 1


def _restore_sigcontext(task: Task, data: bytes) -> tuple[int, ...]:
    """Registers from a sigcontext. Returns its 22 words. Raises EFAULT before anything has changed."""
    words = _SIGCONTEXT.unpack(data)
    fpstate = words[19]
    image = copy_from_user(task, fpstate, FPSTATE) if fpstate else None
    r = task.regs
    r[EDI], r[ESI], r[EBP], r[ESP], r[EBX], r[EDX], r[ECX], r[EAX] = words[4:12]
    r[EIP] = words[14]
    r[EFLAGS] = r[EFLAGS] & ~FIX_EFLAGS | words[16] & FIX_EFLAGS
    r[CS] = words[15] & 0xFFFF | 3
    r[SS] = words[18] & 0xFFFF | 3
    r[DS], r[ES] = words[3] & 0xFFFF, words[2] & 0xFFFF
    r[FS], r[GS] = words[1] & 0xFFFF, words[0] & 0xFFFF
    if image is not None:
        task.ctx.set_fpu_state(_merge_fpstate(image))
    return words


def _merge_fpstate(image: bytes) -> bytes:
    """The FXSAVE image a handler may have changed in either of its two forms; the FSAVE form wins, as in Linux."""
    fx = bytearray(image[112:])
    if struct.unpack_from("<H", image, 110)[0] == 0xFFFF:
        fx[24:28] = b"\x80\x1f\0\0"
    cw, sw, tw, fip, fcs, fdp, fds = struct.unpack_from("<7I", image)
    tags = 0
    for i in range(8):
        if tw >> 2 * i & 3 != 3:
            tags |= 1 << i
    struct.pack_into("<HHBx", fx, 0, cw & 0xFFFF, sw & 0xFFFF, tags)
    struct.pack_into("<IHxxIHxx", fx, 8, fip, fcs & 0xFFFF, fdp, fds & 0xFFFF)
    for i in range(8):
        fx[32 + 16 * i : 42 + 16 * i] = image[28 + 10 * i : 38 + 10 * i]
    return bytes(fx)


def sigreturn(task: Task) -> int:
    """Back from an old frame; returns the mask of blocked signals to set. EAX and all else are in place."""
    frame = (task.regs[ESP] - 8) & 0xFFFFFFFF
    data = copy_from_user(task, frame, SIGFRAME)
    words = _restore_sigcontext(task, data[8:96])
    return words[20] | struct.unpack_from("<I", data, 720)[0] << 32


def rt_sigreturn(task: Task) -> int:
    """Back from an rt frame; returns the mask to set, and puts the alternate stack back."""
    frame = (task.regs[ESP] - 4) & 0xFFFFFFFF
    data = copy_from_user(task, frame, RT_SIGFRAME)
    _restore_sigcontext(task, data[164:252])
    ss_sp, ss_flags, ss_size = struct.unpack_from("<3I", data, 152)
    restore_altstack(task, ss_sp, ss_flags, ss_size)
    return struct.unpack_from("<Q", data, 252)[0]


def restore_altstack(task: Task, ss_sp: int, ss_flags: int, ss_size: int) -> None:
    """sigaltstack from a frame: errors are dropped. Linux: restore_altstack."""
    try:
        set_altstack(task, ss_sp, ss_flags, ss_size, task.regs[ESP])
    except SysError:
        pass


def set_altstack(task: Task, ss_sp: int, ss_flags: int, ss_size: int, sp: int) -> None:
    """Raises EPERM (on it now), EINVAL (flags), ENOMEM (too small). Linux: do_sigaltstack."""
    if on_sig_stack(task, sp):
        raise SysError(errno.EPERM)
    mode = ss_flags & ~SS_AUTODISARM
    if mode not in (0, SS_ONSTACK, SS_DISABLE):
        raise SysError(errno.EINVAL)
    if mode == SS_DISABLE:
        ss_sp = ss_size = 0
    elif ss_size < MINSIGSTKSZ:
        raise SysError(errno.ENOMEM)
    task.sas_ss_sp, task.sas_ss_size, task.sas_ss_flags = ss_sp, ss_size, ss_flags
