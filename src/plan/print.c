/* SPDX-License-Identifier: Apache-2.0 */
/* Owns how a plan looks to a person. Names of collections, nodes and indexes come from the store,
 * so control characters never reach the terminal. Widths count characters, not bytes. */
#include "plan/plan_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "obs/log.h"

enum { CELL_BYTES = 48, NUMBER_BYTES = 40, COLUMNS = 6, URL_BYTES = 1024, TITLE_WIDTH_MAX = 90 };

size_t dr_print_width(const char *text)
{
    size_t count = 0;
    for (const char *at = text; *at != '\0'; at++) {
        count += ((unsigned char)*at & 0xc0) != 0x80;
    }
    return count;
}

static void add_clean(struct dr_str *out, const char *text, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)text[i];
        dr_str_addc(out, c < 0x20 || c == 0x7f ? '?' : text[i]);
    }
}

static void add_line(struct dr_str *out, const char *head, const char *text)
{
    dr_str_add(out, head);
    add_clean(out, text, strlen(text));
    dr_str_addc(out, '\n');
}

static void add_blanks(struct dr_str *out, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        dr_str_addc(out, ' ');
    }
}

/* Bytes of the first `characters` of a text. */
static size_t bytes_of_characters(const char *text, size_t characters)
{
    size_t at = 0;
    while (text[at] != '\0' && (characters > 0 || ((unsigned char)text[at] & 0xc0) == 0x80)) {
        characters -= ((unsigned char)text[at] & 0xc0) != 0x80;
        at++;
    }
    return at;
}

/* `text` in a column; what is too long ends in "...". */
void dr_print_cell(struct dr_str *out, const char *text, size_t width, bool is_number)
{
    size_t length = dr_print_width(text);
    size_t blanks = width > length ? width - length : 0;
    add_blanks(out, is_number ? blanks : 0);
    if (length > width && width > 3) {
        add_clean(out, text, bytes_of_characters(text, width - 3));
        dr_str_add(out, "...");
    } else {
        add_clean(out, text, strlen(text));
    }
    add_blanks(out, is_number ? 0 : blanks);
}

void dr_print_bound(const struct dr_bound *b, const char *open_end, struct dr_str *out)
{
    if (b->parts == 0) {
        dr_str_add(out, open_end);
        return;
    }
    if (b->parts > 1) {
        dr_str_addc(out, '(');
    }
    for (uint32_t i = 0; i < b->parts; i++) {
        if (i > 0) {
            dr_str_add(out, ", ");
        }
        dr_value_print(&b->part[i], out);
    }
    if (b->parts > 1) {
        dr_str_addc(out, ')');
    }
}

/* "1,234", or "at least 1,234" in short where a count failed; "up to 1,234" where nobody can count
 * beforehand, "about 1,234" where that is a share, and "unknown" where there is nothing to go by.
 */
static const char *show_count(const struct dr_plan *p, uint64_t n, bool is_known, char *buf,
                              size_t buf_bytes)
{
    char number[NUMBER_BYTES];
    (void)dr_human_count(n, number, sizeof number);
    if (!is_known && (p->is_upper_bound || p->is_shared) && n == 0) {
        dr_copy_text(buf, buf_bytes, "unknown");
    } else {
        (void)snprintf(buf, buf_bytes, "%s%s",
                       is_known            ? ""
                       : p->is_upper_bound ? "up to "
                       : p->is_shared      ? "about "
                                           : ">= ",
                       number);
    }
    return buf;
}

/* --- head ------------------------------------------------------------------------------------ */

static void add_head(const struct dr_plan *p, bool is_dry_run, struct dr_str *out)
{
    char url[URL_BYTES];
    const struct dr_request *r = p->request;
    dr_str_add(out, is_dry_run ? "DRY RUN - nothing is touched\n" : "PLAN\n");
    dr_str_addf(out, "%s of ", r->kind_name);
    add_clean(out, p->target, strlen(p->target));
    bool has_store = r->store_url != NULL && !p->is_list;
    add_line(out, has_store ? " on " : "",
             has_store ? dr_url_redact(r->store_url, url, sizeof url) : "");
    if (p->pick_count > 0 && p->pick[0].filter != NULL) {
        dr_str_add(out, "where ");
        dr_filter_print(p->pick[0].filter, out);
        dr_str_addc(out, '\n');
    } else if (p->where != NULL) {
        add_line(out, "where ", p->where);
    } else if (p->selection != NULL && p->has_chunk_table) {
        add_line(out, "where ", p->selection);
    }
    if (r->note != NULL) {
        add_line(out, "note: ", r->note);
    }
}

/* --- collections ----------------------------------------------------------------------------- */

struct part_row {
    const char *cell[COLUMNS];
    char steps[CELL_BYTES], estimated[CELL_BYTES], total[CELL_BYTES];
};

static const struct part_row part_heads = {
    .cell = {"COLLECTION", "STRATEGY", "EFFICIENCY", "STEPS", "TO ERASE", "OF TOTAL"}};

static void fill_part_row(const struct dr_plan *p, const struct dr_pick *pick, struct part_row *row)
{
    const struct dr_plan_part *part = &pick->part;
    bool is_idle = part->steps == 0;
    row->cell[0] = part->collection;
    row->cell[1] = is_idle ? "-" : dr_strategy_name(part->strategy);
    row->cell[2] = is_idle ? "-" : dr_strategy_efficiency(part->strategy);
    row->cell[3] = dr_human_count(part->steps, row->steps, sizeof row->steps);
    row->cell[4] = show_count(p, part->estimated, pick->is_estimate_known, row->estimated,
                              sizeof row->estimated);
    row->cell[5] = dr_human_count(part->total, row->total, sizeof row->total);
}

static void add_part_row(struct dr_str *out, const struct part_row *row, const size_t *width)
{
    for (int i = 0; i < COLUMNS; i++) {
        dr_str_add(out, i > 0 ? "  " : "");
        dr_print_cell(out, row->cell[i], width[i], i >= 3);
    }
    dr_str_addc(out, '\n');
}

static void widen(const struct part_row *row, size_t *width)
{
    for (int i = 0; i < COLUMNS; i++) {
        size_t length = dr_print_width(row->cell[i]);
        width[i] = length > width[i] ? length : width[i];
    }
}

static void add_parts(const struct dr_plan *p, struct dr_str *out)
{
    size_t width[COLUMNS] = {0};
    struct part_row row;
    widen(&part_heads, width);
    for (uint32_t i = 0; i < p->pick_count; i++) {
        fill_part_row(p, &p->pick[i], &row);
        widen(&row, width);
    }
    dr_str_addc(out, '\n');
    add_part_row(out, &part_heads, width);
    for (uint32_t i = 0; i < p->pick_count; i++) {
        const struct dr_plan_part *part = &p->pick[i].part;
        fill_part_row(p, &p->pick[i], &row);
        add_part_row(out, &row, width);
        if (part->steps > 0) {
            add_line(out, "    why: ", part->why);
        }
        if (part->warning != NULL) {
            add_line(out, "    warning: ", part->warning);
        }
    }
}

/* --- steps ----------------------------------------------------------------------------------- */

struct step_widths {
    size_t number, node, title, items;
};

static void measure_step(const struct dr_plan *p, const struct dr_plan_step *s,
                         struct step_widths *w)
{
    char count[CELL_BYTES];
    size_t number = (size_t)snprintf(NULL, 0, "%" PRId64, s->number);
    size_t node = dr_print_width(s->node);
    size_t title = dr_print_width(s->title);
    size_t items = strlen(show_count(p, s->estimated, s->is_estimate_known, count, sizeof count));
    w->number = number > w->number ? number : w->number;
    w->node = node > w->node ? node : w->node;
    w->title = title > w->title ? title : w->title;
    w->items = items > w->items ? items : w->items;
}

static const char *show_undo(const struct dr_plan_step *s)
{
    if (s->rollback_query == NULL) {
        return "NONE";
    }
    switch (s->kind) {
    case DR_STEP_ERASE:
        return "from the archive";
    case DR_STEP_VERIFY:
        return "-";
    case DR_STEP_COMMAND:
    case DR_STEP_COPY:
    case DR_STEP_KIND_COUNT:
        break;
    }
    return strncmp(s->rollback_query, "{\"do\":", 6) == 0 ? "-" : "by command";
}

static void add_step(const struct dr_plan *p, const struct dr_plan_step *s,
                     const struct step_widths *w, struct dr_str *out)
{
    char text[CELL_BYTES];
    (void)snprintf(text, sizeof text, "%" PRId64, s->number);
    dr_print_cell(out, text, w->number, true);
    dr_str_addf(out, "  %5" PRIu32 "  ", s->stage);
    dr_print_cell(out, s->node, w->node, false);
    dr_str_add(out, "  ");
    dr_print_cell(out, s->title, w->title, false);
    dr_str_add(out, "  ");
    bool is_counted = s->kind == DR_STEP_ERASE || s->kind == DR_STEP_COPY;
    dr_print_cell(out,
                  is_counted ? show_count(p, s->estimated, s->is_estimate_known, text, sizeof text)
                             : "-",
                  w->items, true);
    dr_str_addf(out, "  %s\n", show_undo(s));
}

static void add_step_heads(const struct step_widths *w, struct dr_str *out)
{
    dr_str_addc(out, '\n');
    dr_print_cell(out, "#", w->number, true);
    dr_str_add(out, "  STAGE  ");
    dr_print_cell(out, "NODE", w->node, false);
    dr_str_add(out, "  ");
    dr_print_cell(out, "STEP", w->title, false);
    dr_str_add(out, "  ");
    dr_print_cell(out, "ITEMS", w->items, true);
    dr_str_add(out, "  UNDO\n");
}

/* One walk over the first `shown` steps: measures when `out` is NULL, prints otherwise. */
static enum dr_code walk_steps(const struct dr_plan *p, uint64_t shown, struct step_widths *w,
                               struct dr_str *out, struct dr_err *err)
{
    struct dr_plan_iter *it = NULL;
    struct dr_plan_step step;
    bool has_step = true;
    enum dr_code rc = dr_plan_begin(p, &it, err);
    for (uint64_t i = 0; rc == DR_OK && i < shown; i++) {
        rc = dr_plan_next(it, &step, &has_step, err);
        if (rc != DR_OK || !has_step) {
            break;
        }
        if (out == NULL) {
            measure_step(p, &step, w);
        } else {
            add_step(p, &step, w, out);
        }
    }
    dr_plan_end(it);
    return rc;
}

static enum dr_code add_steps(const struct dr_plan *p, uint64_t steps_max, struct dr_str *out,
                              struct dr_err *err)
{
    struct step_widths w = {
        .number = 1, .node = strlen("NODE"), .title = strlen("STEP"), .items = strlen("ITEMS")};
    char more[CELL_BYTES];
    uint64_t shown = steps_max == 0 || steps_max > p->step_count ? p->step_count : steps_max;
    if (shown == 0) {
        return DR_OK;
    }
    enum dr_code rc = walk_steps(p, shown, &w, NULL, err);
    if (rc != DR_OK) {
        return rc;
    }
    w.title = w.title > TITLE_WIDTH_MAX ? TITLE_WIDTH_MAX : w.title;
    add_step_heads(&w, out);
    rc = walk_steps(p, shown, &w, out, err);
    if (shown < p->step_count) {
        add_blanks(out, w.number);
        dr_str_addf(out, "  ... and %s more\n",
                    dr_human_count(p->step_count - shown, more, sizeof more));
    }
    return rc;
}

/* --- totals ---------------------------------------------------------------------------------- */

static void add_speed(const struct dr_plan *p, struct dr_str *out)
{
    const struct dr_tuning *t = &p->request->tuning;
    char rate[CELL_BYTES], time[CELL_BYTES], number[CELL_BYTES];
    if (t->rate_items_s == 0) {
        dr_str_add(out, "speed: no limit set");
    } else {
        uint64_t ms = p->estimated / t->rate_items_s * 1000 +
                      p->estimated % t->rate_items_s * 1000 / t->rate_items_s;
        dr_str_addf(out, "speed: at most %s items/s: %s or longer",
                    dr_human_count(t->rate_items_s, rate, sizeof rate),
                    dr_human_ms(ms, time, sizeof time));
    }
    dr_str_addf(out, "; %" PRIu32 " step%s at once per node", t->per_node,
                t->per_node == 1 ? "" : "s");
    if (t->lanes > 0) {
        dr_str_addf(out, " and %" PRIu32 " over all nodes", t->lanes);
    }
    if (t->batch_items_max > 0) {
        dr_str_addf(out, ", batches of up to %s",
                    dr_human_count(t->batch_items_max, number, sizeof number));
    }
    if (t->quiet_count > 0) {
        dr_str_addf(out, "; waits in %" PRIu32 " quiet window%s", t->quiet_count,
                    t->quiet_count == 1 ? "" : "s");
    }
    dr_str_addc(out, '\n');
}

/* Of a list: every step has its own rollback command, up to the point of no return. */
static void add_list_undo(const struct dr_plan *p, struct dr_str *out)
{
    if (p->is_atomic) {
        dr_str_add(out, "a step that cannot be done rolls the whole back by itself\n");
    }
    if (p->no_return > 0) {
        dr_str_addf(out, "undo: by commands; the point of no return is step %" PRId64 "\n",
                    p->no_return);
    } else {
        dr_str_add(out, "undo: by commands, at any time\n");
    }
}

static void add_undo(const struct dr_plan *p, struct dr_str *out)
{
    if (p->is_list) {
        add_list_undo(p, out);
        return;
    }
    if (p->request->irreversible) {
        dr_str_addf(out, "IRREVERSIBLE: point of no return is step %" PRId64 "%s\n", p->no_return,
                    p->no_return > 1 && p->pick[0].told_count > 0
                        ? "; before it begins, drover rollback undoes the others"
                        : "");
        return;
    }
    dr_str_addf(out, "undo: from the archive, kept %" PRIu32 " day%s\n", p->request->archive_days,
                p->request->archive_days == 1 ? "" : "s");
}

static void add_totals(const struct dr_plan *p, struct dr_str *out)
{
    char steps[CELL_BYTES], items[CELL_BYTES], total[CELL_BYTES];
    dr_str_addc(out, '\n');
    if (p->step_count == 0) {
        dr_str_add(out, "nothing to do: 0 steps\n");
        return;
    }
    if (p->is_list) {
        dr_str_addf(out, "total: %s step%s, %s rows to copy\n",
                    dr_human_count(p->step_count, steps, sizeof steps),
                    p->step_count == 1 ? "" : "s",
                    show_count(p, p->estimated, p->is_estimate_known, items, sizeof items));
        add_undo(p, out);
        add_speed(p, out);
        dr_str_addf(out, "plan hash: %016" PRIx64 "\n", p->hash);
        return;
    }
    dr_str_addf(out, "total: %s step%s, %s of %s items to erase\n",
                dr_human_count(p->step_count, steps, sizeof steps), p->step_count == 1 ? "" : "s",
                show_count(p, p->estimated, p->is_estimate_known, items, sizeof items),
                dr_human_count(p->total, total, sizeof total));
    if (p->estimated == 0 && p->is_estimate_known) {
        dr_str_add(out, "nothing to erase now; the steps erase what arrives before they run\n");
    }
    add_undo(p, out);
    add_speed(p, out);
    dr_str_addf(out, "plan hash: %016" PRIx64 "\n", p->hash);
}

enum dr_code dr_plan_print(const struct dr_plan *p, bool is_dry_run, uint64_t steps_max,
                           struct dr_str *out, struct dr_err *err)
{
    add_head(p, is_dry_run, out);
    if (p->about != NULL) {
        dr_str_add(out, p->about);
    }
    if (!p->is_list) {
        add_parts(p, out);
    }
    enum dr_code rc = p->has_chunk_table ? dr_chunk_table_print(p, steps_max, out, err) : DR_OK;
    if (rc == DR_OK) {
        rc = add_steps(p, steps_max, out, err);
    }
    if (rc != DR_OK) {
        return rc;
    }
    add_totals(p, out);
    return out->is_short ? dr_fail_nomem(err) : DR_OK;
}
