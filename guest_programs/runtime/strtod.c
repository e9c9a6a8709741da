/* Decimal text to double, exact: the digits are halved or doubled as a decimal number until 53 bits stand before the point, then rounded once. */
#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "internal.h"
#include "syscall.h"

enum { DIGITS = 800, LEAST = -1074, MOST = 971 }; /* powers of two of the smallest double and of the largest one's last bit */

/* 0.d[0]d[1]... x 10^point, d[0] not 0; `more`: digits other than 0 follow those there is room for. */
struct decimal {
    int count, point, more;
    unsigned char d[DIGITS + 1];
};

static void trim(struct decimal *n)
{
    if (n->count > DIGITS) {
        n->more |= n->d[DIGITS];
        n->count = DIGITS;
    }
    while (n->count && !n->d[n->count - 1])
        n->count--;
}

static void halve(struct decimal *n)
{
    int rest = 0, first = n->d[0] < 2;
    for (int i = 0; i < n->count; i++) {
        int value = rest * 10 + n->d[i];
        n->d[i] = (unsigned char)(value / 2);
        rest = value % 2;
    }
    if (rest)
        n->d[n->count++] = 5;
    if (first) {
        memmove(n->d, n->d + 1, --n->count);
        n->point--;
    }
    trim(n);
}

static void twice(struct decimal *n)
{
    int carry = 0;
    for (int i = n->count - 1; i >= 0; i--) {
        int value = n->d[i] * 2 + carry;
        n->d[i] = (unsigned char)(value % 10);
        carry = value / 10;
    }
    if (carry) {
        memmove(n->d + 1, n->d, n->count++);
        n->d[0] = (unsigned char)carry;
        n->point++;
    }
    trim(n);
}

/* The part before the point, which has at most 19 digits. */
static uint64_t whole(const struct decimal *n)
{
    uint64_t value = 0;
    for (int i = 0; i < n->point; i++)
        value = value * 10 + (i < n->count ? n->d[i] : 0);
    return value;
}

/* Is the part after the point more than a half, or a half beside an odd number? */
static int rounds_up(const struct decimal *n, uint64_t before)
{
    int at = n->point;
    if (at < 0 || at >= n->count)
        return 0;
    return n->d[at] > 5 || (n->d[at] == 5 && (at + 1 < n->count || n->more || before & 1));
}

static double nearest(struct decimal *n)
{
    union { uint64_t bits; double value; } result = { .bits = 0 };
    const uint64_t high = 1ULL << 53, low = 1ULL << 52;
    int power = 0;
    if (!n->count || n->point < -330)
        return 0;
    while (n->point < 400 && (n->point > 16 || (n->point == 16 && whole(n) >= high))) {
        halve(n);
        power++;
    }
    while (power > LEAST && (n->point < 16 || whole(n) < low)) {
        twice(n);
        power--;
    }
    uint64_t value = n->point > 16 ? high : whole(n);
    if (rounds_up(n, value) && ++value == high) {
        value = low;
        power++;
    }
    if (value >= high || power > MOST)
        result.bits = 0x7ffULL << 52;
    else
        result.bits = value < low ? value : (uint64_t)(power - LEAST + 1) << 52 | (value & (low - 1));
    return result.value;
}

/* Reads digits with at most one point among them; NULL when there is no digit. */
static const char *read_digits(const char *s, struct decimal *n)
{
    int seen = 0, point = 0;
    for (;; s++) {
        if (*s == '.' && !point) {
            point = 1;
            continue;
        }
        if (!isdigit((unsigned char)*s))
            break;
        seen = 1;
        if (!point && (n->count || *s != '0'))
            n->point++;
        else if (point && !n->count && *s == '0')
            n->point--;
        if (n->count < DIGITS && (n->count || *s != '0'))
            n->d[n->count++] = (unsigned char)(*s - '0');
        else if (n->count)
            n->more |= *s != '0';
    }
    trim(n);
    return seen ? s : NULL;
}

static const char *read_exponent(const char *s, struct decimal *n)
{
    const char *at = s + 1;
    int negative = *at == '-', value = 0;
    if ((*s | 32) != 'e')
        return s;
    if (*at == '-' || *at == '+')
        at++;
    if (!isdigit((unsigned char)*at))
        return s;
    for (; isdigit((unsigned char)*at); at++)
        if (value < 100000)
            value = value * 10 + *at - '0';
    n->point += negative ? -value : value;
    return at;
}

double strtod(const char *restrict s, char **restrict end)
{
    static const struct { const char *name; uint64_t bits; } words[] = {
        { "infinity", 0x7ffULL << 52 }, { "inf", 0x7ffULL << 52 }, { "nan", 0x7ff8ULL << 48 } };
    union { uint64_t bits; double value; } result = { .bits = 0 };
    struct decimal n = { .count = 0 };
    const char *at = s;
    while (isspace((unsigned char)*at))
        at++;
    int negative = *at == '-';
    if (*at == '-' || *at == '+')
        at++;
    const char *stop = read_digits(at, &n);
    if (stop) {
        stop = read_exponent(stop, &n);
        result.value = nearest(&n);
        if (n.count && (!(result.bits << 1) || result.bits == 0x7ffULL << 52))
            errno = ERANGE;
    } else
        for (size_t i = 0; !stop && i < sizeof words / sizeof *words; i++)
            if (!strncasecmp(at, words[i].name, strlen(words[i].name))) {
                stop = at + strlen(words[i].name);
                result.bits = words[i].bits;
            }
    if (end)
        *end = (char *)(stop ? stop : s);
    if (stop && negative)
        result.bits |= 1ULL << 63;
    return result.value;
}

double atof(const char *s)
{
    return strtod(s, NULL);
}
