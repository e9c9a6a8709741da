/* sscanf, fscanf, scanf: d i u x o p c s [set] a e f g n %, with width, assignment suppression and lengths hh h l ll L z j t. Numbers with
 * a point are read as decimal text and have the precision of a double. */
#include <ctype.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { UNREAD = -2, ROOM = 512 };

/* What is scanned: a string, or a file a character at a time. A character is fetched when it is looked at, so that a terminal or a pipe is
 * not asked for more than the format needs. */
struct source {
    const char *text;
    FILE *file;
    int next;
    long taken;
};

static int peek(struct source *in)
{
    if (in->next == UNREAD)
        in->next = in->file ? getc(in->file) : *in->text ? (unsigned char)*in->text++ : EOF;
    return in->next;
}

static void take(struct source *in)
{
    in->next = UNREAD;
    in->taken++;
}

static void skip_spaces(struct source *in)
{
    while (isspace(peek(in)))
        take(in);
}

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

/* The text of a number, as far as it goes. */
struct number {
    char text[ROOM];
    int length, limit;
};

static int accept(struct source *in, struct number *n, int wanted)
{
    if (n->length == n->limit || !wanted)
        return 0;
    n->text[n->length++] = (char)in->next;
    n->text[n->length] = 0;
    take(in);
    return 1;
}

static int accept_any(struct source *in, struct number *n, const char *set)
{
    return n->length < n->limit && peek(in) > 0 && accept(in, n, strchr(set, peek(in)) != NULL);
}

static int is_digit_of(int c, int base)
{
    return base == 16 ? isxdigit(c) : base == 8 ? isdigit(c) && c < '8' : isdigit(c);
}

static void accept_digits(struct source *in, struct number *n, int base)
{
    while (n->length < n->limit && accept(in, n, is_digit_of(peek(in), base)))
        ;
}

/* Reads an integer; 0 when there is none. */
static int read_integer(struct source *in, struct number *n, int base, unsigned long long *value)
{
    char *end;
    accept_any(in, n, "+-");
    if ((base == 0 || base == 16) && accept_any(in, n, "0"))
        base = accept_any(in, n, "xX") ? 16 : base ? base : 8;
    accept_digits(in, n, base ? base : 10);
    *value = strtoull(n->text, &end, base ? base : 10);
    return n->length && end == n->text + n->length;
}

/* Reads a number that may have a point and an exponent; 0 when there is none. */
static int read_real(struct source *in, struct number *n, double *value)
{
    char *end;
    accept_any(in, n, "+-");
    if (isalpha(peek(in))) {
        for (const char *word = peek(in) == 'n' || peek(in) == 'N' ? "nan" : "infinity"; *word && accept(in, n, (peek(in) | 32) == *word); word++)
            ;
    } else {
        accept_digits(in, n, 10);
        if (accept_any(in, n, "."))
            accept_digits(in, n, 10);
        if (n->length && (isdigit((unsigned char)n->text[n->length - 1]) || n->length > 1) && accept_any(in, n, "eE")) {
            accept_any(in, n, "+-");
            accept_digits(in, n, 10);
        }
    }
    *value = strtod(n->text, &end);
    return n->length && end == n->text + n->length;
}

/* One conversion as the format has it. */
struct conversion {
    char kind;
    int width, keep, size, longs;
    const char *set, *set_end;
    int invert;
};

/* Reads a conversion from behind its %; the end of it, on its last character, or NULL where it makes no sense. */
static const char *parse(const char *format, struct conversion *c)
{
    *c = (struct conversion){ .keep = 1, .size = 4 };
    if (*format == '*') {
        c->keep = 0;
        format++;
    }
    for (; isdigit((unsigned char)*format); format++)
        c->width = c->width * 10 + *format - '0';
    for (; *format && strchr("lhzjtL", *format); format++) {
        c->longs += *format == 'l' ? 1 : *format == 'L' ? 2 : 0;
        c->size = *format == 'j' || c->longs == 2 ? 8 : *format == 'h' ? (c->size == 2 ? 1 : 2) : c->size;
    }
    c->kind = *format;
    if (c->kind != '[')
        return c->kind ? format : NULL;
    c->set = format + 1;
    if (*c->set == '^') {
        c->invert = 1;
        c->set++;
    }
    return *c->set ? c->set_end = strchr(c->set + 1, ']') : NULL;
}

static void store_real(void *to, int longs, double value)
{
    if (longs == 2)
        *(long double *)to = value;
    else if (longs == 1)
        *(double *)to = value;
    else
        *(float *)to = (float)value;
}

static int scan_number(struct source *in, const struct conversion *c, void *to)
{
    struct number n = { .length = 0, .limit = c->width && c->width < ROOM ? c->width : ROOM - 1 };
    n.text[0] = 0;
    if (strchr("aAeEfFgG", c->kind)) {
        double value;
        if (!read_real(in, &n, &value))
            return 0;
        if (to)
            store_real(to, c->longs, value);
        return 1;
    }
    unsigned long long value;
    if (!read_integer(in, &n, c->kind == 'i' ? 0 : c->kind == 'o' ? 8 : c->kind == 'd' || c->kind == 'u' ? 10 : 16, &value))
        return 0;
    if (to)
        store(to, c->size, value);
    return 1;
}

static int scan_text(struct source *in, const struct conversion *c, char *to)
{
    int taken = 0, limit = c->width ? c->width : c->kind == 'c' ? 1 : INT_MAX;
    for (; taken < limit && peek(in) != EOF; taken++, take(in)) {
        int letter = peek(in);
        if (c->kind == 's' ? isspace(letter) : c->kind == '[' && in_set(c->set, c->set_end, letter) == c->invert)
            break;
        if (to)
            to[taken] = (char)letter;
    }
    if (!taken || (c->kind == 'c' && taken < limit))
        return 0;
    if (to && c->kind != 'c')
        to[taken] = 0;
    return 1;
}

static int scan(struct source *in, const char *format, va_list list)
{
    struct conversion c;
    int assigned = 0;
    for (; *format; format++) {
        if (isspace((unsigned char)*format)) {
            skip_spaces(in);
            continue;
        }
        if (*format != '%' || format[1] == '%') {
            if (*format == '%') {
                format++;
                skip_spaces(in);
            }
            if (peek(in) != (unsigned char)*format)
                return peek(in) != EOF || assigned ? assigned : EOF;
            take(in);
            continue;
        }
        format = parse(format + 1, &c);
        if (!format)
            return assigned;
        if (c.kind == 'n') {
            if (c.keep)
                store(va_arg(list, void *), c.size, in->taken);
            continue;
        }
        if (c.kind != 'c' && c.kind != '[')
            skip_spaces(in);
        if (peek(in) == EOF)
            return assigned ? assigned : EOF;
        void *to = c.keep ? va_arg(list, void *) : NULL;
        int found = strchr("diuxXopaAeEfFgG", c.kind) ? scan_number(in, &c, to) : strchr("cs[", c.kind) && scan_text(in, &c, to);
        if (!found)
            return assigned;
        assigned += c.keep;
    }
    return assigned;
}

int vsscanf(const char *restrict from, const char *restrict format, va_list list)
{
    struct source in = { .text = from, .next = UNREAD };
    return scan(&in, format, list);
}

int vfscanf(FILE *restrict file, const char *restrict format, va_list list)
{
    struct source in = { .file = file, .next = UNREAD };
    int assigned = scan(&in, format, list);
    if (in.next >= 0)
        ungetc(in.next, file);
    return assigned;
}

int vscanf(const char *restrict format, va_list list)
{
    return vfscanf(stdin, format, list);
}

int sscanf(const char *restrict from, const char *restrict format, ...)
{
    va_list list;
    va_start(list, format);
    int assigned = vsscanf(from, format, list);
    va_end(list);
    return assigned;
}

int fscanf(FILE *restrict file, const char *restrict format, ...)
{
    va_list list;
    va_start(list, format);
    int assigned = vfscanf(file, format, list);
    va_end(list);
    return assigned;
}

int scanf(const char *restrict format, ...)
{
    va_list list;
    va_start(list, format);
    int assigned = vfscanf(stdin, format, list);
    va_end(list);
    return assigned;
}
