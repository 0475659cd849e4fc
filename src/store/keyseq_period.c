/* SPDX-License-Identifier: Apache-2.0 */
/* Owns calendar periods: UTC, proleptic Gregorian, weeks from Monday. Pure arithmetic, so that the
 * number of hours in a decade costs no more than that of a day.
 *
 * days_of_date and date_of_days follow Howard Hinnant, "chrono-Compatible Low-Level Date
 * Algorithms": years start in March, so that the leap day is the last of its year. */
#include <assert.h>
#include <string.h>

#include "store/keyseq_private.h"

enum { HOUR_S = 3600, DAY_S = 86400, MONDAY_SHIFT = 3 }; /* 1970-01-01 was a Thursday */

static const char *const names[KEYSEQ_PERIODS] = {
    [DR_P_ETERNITY] = "eternity", [DR_P_YEAR] = "year", [DR_P_MONTH] = "month",
    [DR_P_WEEK] = "week",         [DR_P_DAY] = "day",   [DR_P_HOUR] = "hour",
};

struct date {
    int64_t year;
    unsigned month, day;
};

static int64_t divide_down(int64_t a, int64_t b)
{
    return a / b - (a % b < 0 ? 1 : 0);
}

static int64_t days_of_date(int64_t year, unsigned month, unsigned day)
{
    year -= month <= 2;
    int64_t era = divide_down(year, 400);
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

static struct date date_of_days(int64_t days)
{
    days += 719468;
    int64_t era = divide_down(days, 146097);
    int64_t of_era = days - era * 146097;
    int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned shifted = (unsigned)((5 * of_year + 2) / 153);
    struct date d = {.year = year_of_era + era * 400,
                     .month = shifted < 10 ? shifted + 3 : shifted - 9,
                     .day = (unsigned)(of_year - (153 * (int64_t)shifted + 2) / 5 + 1)};
    d.year += d.month <= 2;
    return d;
}

const char *dr_keyseq_period_name(enum dr_period p)
{
    assert((unsigned)p < KEYSEQ_PERIODS);
    return names[p];
}

bool dr_keyseq_period_parse(const char *name, size_t bytes, enum dr_period *out)
{
    for (unsigned i = 0; i < KEYSEQ_PERIODS; i++) {
        if (strlen(names[i]) == bytes && memcmp(names[i], name, bytes) == 0) {
            *out = (enum dr_period)i;
            return true;
        }
    }
    return false;
}

int64_t dr_keyseq_period_number(enum dr_period p, int64_t at)
{
    int64_t days = divide_down(at, DAY_S);
    struct date d;
    switch (p) {
    case DR_P_ETERNITY:
        return 0;
    case DR_P_YEAR:
        return date_of_days(days).year;
    case DR_P_MONTH:
        d = date_of_days(days);
        return d.year * 12 + (int64_t)d.month - 1;
    case DR_P_WEEK:
        return divide_down(days + MONDAY_SHIFT, 7);
    case DR_P_DAY:
        return days;
    case DR_P_HOUR:
        return divide_down(at, HOUR_S);
    }
    return 0;
}

int64_t dr_keyseq_period_start(enum dr_period p, int64_t number)
{
    int64_t year;
    switch (p) {
    case DR_P_ETERNITY:
        return 0;
    case DR_P_YEAR:
        return days_of_date(number, 1, 1) * DAY_S;
    case DR_P_MONTH:
        year = divide_down(number, 12);
        return days_of_date(year, (unsigned)(number - year * 12) + 1, 1) * DAY_S;
    case DR_P_WEEK:
        return (number * 7 - MONDAY_SHIFT) * DAY_S;
    case DR_P_DAY:
        return number * DAY_S;
    case DR_P_HOUR:
        return number * HOUR_S;
    }
    return 0;
}

/* --- texts ----------------------------------------------------------------------------------- */

static void write_two(char *out, unsigned n)
{
    out[0] = (char)('0' + n / 10 % 10);
    out[1] = (char)('0' + n % 10);
}

size_t dr_keyseq_period_write(int64_t start, char *out)
{
    int64_t days = divide_down(start, DAY_S);
    unsigned second = (unsigned)(start - days * DAY_S);
    struct date d = date_of_days(days);
    size_t length = 8;
    write_two(out, (unsigned)(d.year / 100));
    write_two(out + 2, (unsigned)(d.year % 100));
    write_two(out + 4, d.month);
    write_two(out + 6, d.day);
    if (second > 0) {
        write_two(out + 8, second / HOUR_S);
        write_two(out + 10, second / 60 % 60);
        write_two(out + 12, second % 60);
        for (length = 14; out[length - 1] == '0'; length--) { /* only the time is cut */
        }
    }
    return length;
}

char *dr_period_text(enum dr_period p, int64_t start, char *buf, size_t buf_bytes)
{
    char text[16];
    size_t length = p == DR_P_ETERNITY ? 0 : dr_keyseq_period_write(start, text);
    assert(buf_bytes > length);
    memcpy(buf, text, length);
    buf[length] = '\0';
    return buf;
}

static unsigned read_number(const char *digits, size_t count)
{
    unsigned n = 0;
    for (size_t i = 0; i < count; i++) {
        n = n * 10 + (unsigned)(digits[i] - '0');
    }
    return n;
}

bool dr_keyseq_period_read(enum dr_period p, const char *text, size_t bytes, int64_t *start_out)
{
    char time[7] = "000000";
    char again[16];
    if (p == DR_P_ETERNITY || bytes < 8 || bytes > 14) {
        return false;
    }
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
    }
    memcpy(time, text + 8, bytes - 8);
    unsigned month = read_number(text + 4, 2);
    if (month < 1 || month > 12) {
        return false;
    }
    int64_t days = days_of_date(read_number(text, 4), month, read_number(text + 6, 2));
    int64_t second = (int64_t)read_number(time, 2) * HOUR_S +
                     (int64_t)read_number(time + 2, 2) * 60 + read_number(time + 4, 2);
    int64_t start = days * DAY_S + second;
    /* Whatever is not as it would be written (30 February, 25:00, trailing zeros) is no period. */
    if (dr_keyseq_period_start(p, dr_keyseq_period_number(p, start)) != start ||
        dr_keyseq_period_write(start, again) != bytes || memcmp(again, text, bytes) != 0) {
        return false;
    }
    *start_out = start;
    return true;
}
