/* The printf family over one formatter that feeds a sink: flags, width, precision, length, and d i u o x X c s p n %. */
#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include "internal.h"

struct conversion {
    int left, plus, space, alternate, zero, width, precision; /* precision -1: none given */
};

struct output {
    sink_function *sink;
    void *to;
    int total;
};

static void put(struct output *out, const char *text, size_t length)
{
    if (length)
        out->sink(out->to, text, length);
    out->total += length;
}

static void pad(struct output *out, char with, int count)
{
    char run[32];
    if (count <= 0)
        return;
    memset(run, with, sizeof run);
    for (; count > (int)sizeof run; count -= sizeof run)
        put(out, run, sizeof run);
    put(out, run, count);
}

/* Digits of `value`, written backwards from `end`; answers where they begin. */
static char *digits(char *end, uint64_t value, unsigned base, const char *alphabet)
{
    while (value >> 32) {
        uint64_t remainder;
        value = __udivmoddi4(value, base, &remainder);
        *--end = alphabet[remainder];
    }
    for (uint32_t low = (uint32_t)value; low; low /= base)
        *--end = alphabet[low % base];
    return end;
}

static void put_number(struct output *out, const struct conversion *c, uint64_t value, int negative, unsigned base, int upper)
{
    char room[24], prefix[3], *end = room + sizeof room;
    char *begin = digits(end, value, base, upper ? "0123456789ABCDEF" : "0123456789abcdef");
    int length = end - begin, prefix_length = 0;
    int zeros = c->precision - length;
    if (c->precision < 0 && length == 0)
        zeros = 1;
    if (base == 8 && c->alternate && zeros <= 0 && (length == 0 || *begin != '0'))
        zeros = 1;
    if (negative || c->plus || c->space)
        prefix[prefix_length++] = negative ? '-' : c->plus ? '+' : ' ';
    if (base == 16 && c->alternate && value) {
        prefix[prefix_length++] = '0';
        prefix[prefix_length++] = upper ? 'X' : 'x';
    }
    if (zeros < 0)
        zeros = 0;
    int space = c->width - prefix_length - zeros - length;
    if (c->zero && !c->left && c->precision < 0 && space > 0) {
        zeros += space;
        space = 0;
    }
    if (!c->left)
        pad(out, ' ', space);
    put(out, prefix, prefix_length);
    pad(out, '0', zeros);
    put(out, begin, length);
    if (c->left)
        pad(out, ' ', space);
}

static void put_text(struct output *out, const struct conversion *c, const char *text, int length)
{
    if (!c->left)
        pad(out, ' ', c->width - length);
    put(out, text, length);
    if (c->left)
        pad(out, ' ', c->width - length);
}

/* Reads the flags, width and precision that follow a per cent sign. */
static const char *parse(const char *format, struct conversion *c, va_list *list)
{
    *c = (struct conversion){ .precision = -1 };
    for (;; format++) {
        if (*format == '-')
            c->left = 1;
        else if (*format == '+')
            c->plus = 1;
        else if (*format == ' ')
            c->space = 1;
        else if (*format == '#')
            c->alternate = 1;
        else if (*format == '0')
            c->zero = 1;
        else
            break;
    }
    if (*format == '*') {
        c->width = va_arg(*list, int);
        if (c->width < 0) {
            c->left = 1;
            c->width = -c->width;
        }
        format++;
    } else
        for (; isdigit(*format); format++)
            c->width = c->width * 10 + *format - '0';
    if (*format == '.') {
        c->precision = 0;
        if (*++format == '*') {
            c->precision = va_arg(*list, int);
            format++;
        } else
            for (; isdigit(*format); format++)
                c->precision = c->precision * 10 + *format - '0';
    }
    return format;
}

/* Size in bytes of the integer argument; negative for char and short, which arrive as int. */
static const char *parse_length(const char *format, int *size)
{
    *size = 4;
    for (;; format++) {
        if (*format == 'l')
            *size = format[1] == 'l' ? 8 : *size;
        else if (*format == 'j' || *format == 'q')
            *size = 8;
        else if (*format == 'h')
            *size = *size == -2 ? -1 : -2;
        else if (*format != 'z' && *format != 't')
            return format;
    }
}

int __format(sink_function *sink, void *to, const char *format, va_list arguments)
{
    struct output out = { sink, to, 0 };
    struct conversion c;
    va_list list;
    va_copy(list, arguments);
    for (;;) {
        size_t plain = 0;
        while (format[plain] && format[plain] != '%')
            plain++;
        put(&out, format, plain);
        format += plain;
        if (!*format)
            break;
        int size;
        const char *start = format;
        format = parse_length(parse(format + 1, &c, &list), &size);
        char kind = *format;
        if (!kind)
            break;
        format++;
        switch (kind) {
        case 'd':
        case 'i': {
            int64_t value = size == 8 ? va_arg(list, int64_t) : va_arg(list, int32_t);
            if (size < 0)
                value = size == -2 ? (short)value : (signed char)value;
            put_number(&out, &c, value < 0 ? -(uint64_t)value : (uint64_t)value, value < 0, 10, 0);
            break;
        }
        case 'u':
        case 'o':
        case 'x':
        case 'X': {
            uint64_t value = size == 8 ? va_arg(list, uint64_t) : va_arg(list, uint32_t);
            if (size < 0)
                value = size == -2 ? (unsigned short)value : (unsigned char)value;
            c.plus = c.space = 0;
            put_number(&out, &c, value, 0, kind == 'u' ? 10 : kind == 'o' ? 8 : 16, kind == 'X');
            break;
        }
        case 'p':
            c.alternate = 1;
            put_number(&out, &c, (uintptr_t)va_arg(list, void *), 0, 16, 0);
            break;
        case 'c': {
            char letter = (char)va_arg(list, int);
            put_text(&out, &c, &letter, 1);
            break;
        }
        case 's': {
            const char *text = va_arg(list, const char *);
            if (!text)
                text = "(null)";
            put_text(&out, &c, text, strnlen(text, c.precision < 0 ? INT_MAX : (size_t)c.precision));
            break;
        }
        case 'n':
            *va_arg(list, int *) = out.total;
            break;
        case '%':
            put(&out, "%", 1);
            break;
        default: /* an unknown conversion shows as it was written */
            put(&out, start, format - start);
        }
    }
    va_end(list);
    return out.total;
}

struct bounded {
    char *at, *end;
};

static void bounded_sink(void *to, const char *text, size_t length)
{
    struct bounded *room = to;
    size_t left = room->end - room->at;
    if (length > left)
        length = left;
    memcpy(room->at, text, length);
    room->at += length;
}

int vsnprintf(char *restrict to, size_t size, const char *restrict format, va_list list)
{
    struct bounded room = { to, size ? to + size - 1 : to };
    int total = __format(bounded_sink, &room, format, list);
    if (size)
        *room.at = 0;
    return total;
}

int vsprintf(char *restrict to, const char *restrict format, va_list list)
{
    /* No object reaches past the end of the address space. */
    return vsnprintf(to, -(uintptr_t)to - 1, format, list);
}

int snprintf(char *restrict to, size_t size, const char *restrict format, ...)
{
    va_list list;
    va_start(list, format);
    int total = vsnprintf(to, size, format, list);
    va_end(list);
    return total;
}

int sprintf(char *restrict to, const char *restrict format, ...)
{
    va_list list;
    va_start(list, format);
    int total = vsprintf(to, format, list);
    va_end(list);
    return total;
}
