/* What i386 compilers call for in libgcc, 64-bit division above all; a host without 32-bit libraries has none to link. */
#include "internal.h"

/* 64 by 32 bits, high < divisor: one divl. */
static inline uint32_t divide_step(uint32_t high, uint32_t low, uint32_t divisor, uint32_t *remainder)
{
    uint32_t quotient;
    __asm__("divl %4" : "=a"(quotient), "=d"(*remainder) : "0"(low), "1"(high), "rm"(divisor) : "cc");
    return quotient;
}

uint64_t __udivmoddi4(uint64_t dividend, uint64_t divisor, uint64_t *remainder)
{
    uint32_t high = dividend >> 32, low = (uint32_t)dividend, left;
    if (!(divisor >> 32)) {
        uint32_t by = (uint32_t)divisor, upper = 0;
        left = high;
        if (high >= by) /* also a zero divisor, for which divl raises the exception */
            upper = divide_step(0, high, by, &left);
        uint32_t lower = divide_step(left, low, by, &left);
        *remainder = left;
        return (uint64_t)upper << 32 | lower;
    }
    uint64_t quotient = 0;
    int shift = __builtin_clz((uint32_t)(divisor >> 32)) - (high ? __builtin_clz(high) : 32);
    for (divisor <<= shift > 0 ? shift : 0; shift >= 0; shift--, divisor >>= 1) {
        quotient <<= 1;
        if (dividend >= divisor) {
            dividend -= divisor;
            quotient |= 1;
        }
    }
    *remainder = dividend;
    return quotient;
}

uint64_t __udivdi3(uint64_t a, uint64_t b)
{
    uint64_t remainder;
    return __udivmoddi4(a, b, &remainder);
}

uint64_t __umoddi3(uint64_t a, uint64_t b)
{
    uint64_t remainder;
    __udivmoddi4(a, b, &remainder);
    return remainder;
}

static uint64_t magnitude(int64_t value)
{
    return value < 0 ? -(uint64_t)value : (uint64_t)value;
}

int64_t __divdi3(int64_t a, int64_t b)
{
    uint64_t quotient = __udivdi3(magnitude(a), magnitude(b));
    return (a < 0) != (b < 0) ? -quotient : quotient;
}

int64_t __moddi3(int64_t a, int64_t b)
{
    uint64_t remainder = __umoddi3(magnitude(a), magnitude(b));
    return a < 0 ? -remainder : remainder;
}

int64_t __divmoddi4(int64_t a, int64_t b, int64_t *remainder)
{
    *remainder = __moddi3(a, b);
    return __divdi3(a, b);
}

int __popcountsi2(uint32_t value)
{
    value -= value >> 1 & 0x55555555u;
    value = (value & 0x33333333u) + (value >> 2 & 0x33333333u);
    value = (value + (value >> 4)) & 0x0f0f0f0fu;
    return (int)(value * 0x01010101u >> 24);
}

int __popcountdi2(uint64_t value)
{
    return __popcountsi2((uint32_t)value) + __popcountsi2((uint32_t)(value >> 32));
}
