#ifndef _SETJMP_H
#define _SETJMP_H
#include <signal.h>
/* ebx, esi, edi, ebp, esp after return, eip; then the signal mask when sigsetjmp saved one. */
typedef struct { unsigned long __registers[6]; int __mask_saved; sigset_t __mask; } jmp_buf[1];
typedef jmp_buf sigjmp_buf;
int setjmp(jmp_buf context) __attribute__((returns_twice));
__attribute__((noreturn)) void longjmp(jmp_buf context, int value);
__attribute__((noreturn)) void siglongjmp(sigjmp_buf context, int value);
void __save_signal_mask(sigjmp_buf context, int save);
#define _setjmp(context) setjmp(context)
#define _longjmp(context, value) longjmp(context, value)
#define sigsetjmp(context, save) (__save_signal_mask(context, save), setjmp(context))
#endif
