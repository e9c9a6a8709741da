/* sscanf: d i u x o c s [set] n %, with width, assignment suppression and lengths hh h l ll z j. */
#include <ctype.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void store(void *to, int size, unsigned long long value)
{
    switch (size) {
    case 1: *(char *)to = (char)value; break;
    case 2: *(short *)to = (short)value; break;
    case 8: *(long long *)to = (long long)value; break;
    default: *(int *)to = (int)value;
    }
}

/* Is c in the set between `set` (after the bracket and an optional ^) and its closing bracket? */
static int in_set(const char *set, const char *end, int c)
{
    for (const char *p = set; p < end; p++) {
        if (p + 2 < end && p[1] == '-') {
            if ((unsigned char)p[0] <= c && c <= (unsigned char)p[2])
                return 1;
            p += 2;
        } else if ((unsigned char)*p == c)
            return 1;
    }
    return 0;
}

int vsscanf(const char *restrict from, const char *restrict format, va_list list)
{
    const char *at = from;
    int assigned = 0;
    for (; *format; format++) {
        if (isspace((unsigned char)*format)) {
            while (isspace((unsigned char)*at))
                at++;
            continue;
        }
        if (*format != '%') {
            if (*at != *format)
                return *at || assigned ? assigned : EOF;
            at++;
            continue;
        }
        int width = 0, size = 4, keep = 1;
        if (*++format == '*') {
            keep = 0;
            format++;
        }
        for (; isdigit((unsigned char)*format); format++)
            width = width * 10 + *format - '0';
        for (; *format == 'l' || *format == 'h' || *format == 'z' || *format == 'j' || *format == 't'; format++)
            size = *format == 'j' || (*format == 'l' && format[1] == 'l') ? 8 : *format == 'h' ? (size == 2 ? 1 : 2) : size;
        char kind = *format;
        if (kind == 'n') {
            if (keep)
                store(va_arg(list, void *), size, at - from);
            continue;
        }
        if (kind != 'c' && kind != '[')
            while (isspace((unsigned char)*at))
                at++;
        if (!*at)
            return assigned ? assigned : EOF;
        int limit = width ? width : INT_MAX;
        if (kind == '%') {
            if (*at++ != '%')
                return assigned;
        } else if (strchr("diuxXop", kind)) {
            char digits[72], *end;
            int base = kind == 'i' ? 0 : kind == 'o' ? 8 : kind == 'x' || kind == 'X' || kind == 'p' ? 16 : 10;
            size_t length = strnlen(at, limit < (int)sizeof digits ? (size_t)limit : sizeof digits - 1);
            memcpy(digits, at, length);
            digits[length] = 0;
            unsigned long long value = strtoull(digits, &end, base);
            if (end == digits)
                return assigned;
            at += end - digits;
            if (keep) {
                store(va_arg(list, void *), size, value);
                assigned++;
            }
        } else {
            const char *set = NULL, *set_end = NULL;
            int invert = 0, taken = 0;
            if (kind == '[') {
                set = format + 1;
                if (*set == '^') {
                    invert = 1;
                    set++;
                }
                set_end = strchr(set + 1, ']');
                if (!set_end)
                    return assigned;
                format = set_end;
            } else if (kind == 'c')
                limit = width ? width : 1;
            else if (kind != 's')
                return assigned;
            char *to = keep ? va_arg(list, char *) : NULL;
            for (; taken < limit && at[taken]; taken++) {
                unsigned char c = at[taken];
                if (kind == 's' ? isspace(c) : kind == '[' && in_set(set, set_end, c) == invert)
                    break;
                if (to)
                    to[taken] = c;
            }
            if (!taken || (kind == 'c' && taken < limit))
                return assigned;
            at += taken;
            if (to) {
                if (kind != 'c')
                    to[taken] = 0;
                assigned++;
            }
        }
    }
    return assigned;
}

int sscanf(const char *restrict from, const char *restrict format, ...)
{
    va_list list;
    va_start(list, format);
    int assigned = vsscanf(from, format, list);
    va_end(list);
    return assigned;
}
