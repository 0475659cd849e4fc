/* SPDX-License-Identifier: Apache-2.0 */
/* Owns what MariaDB's and MySQL's catalogs say of a table. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "store/sql/sql_private.h"

/* ---- columns ---- */

static bool is_one_of(const struct dr_value *v, const char *const *name, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (sa_is(v, name[i])) {
            return true;
        }
    }
    return false;
}
#define IS_ONE_OF(v, list) is_one_of(v, list, sizeof(list) / sizeof *(list))

static enum sa_class class_of(const struct dr_value *type, bool *is_sortable)
{
    static const char *const ints[] = {"tinyint", "smallint", "mediumint", "int", "bigint", "year"};
    static const char *const floats[] = {"float", "double"};
    static const char *const blobs[] = {"binary", "varbinary",  "tinyblob",
                                        "blob",   "mediumblob", "longblob"};
    static const char *const texts[] = {"char", "varchar",    "tinytext",
                                        "text", "mediumtext", "longtext"};
    static const char *const times[] = {"date", "datetime", "timestamp", "time"};
    *is_sortable = true;
    if (IS_ONE_OF(type, ints)) {
        return SA_INT;
    }
    if (IS_ONE_OF(type, floats)) {
        return SA_FLOAT;
    }
    if (sa_is(type, "decimal")) {
        return SA_DECIMAL;
    }
    if (IS_ONE_OF(type, blobs)) {
        return SA_BLOB;
    }
    if (IS_ONE_OF(type, texts)) {
        return SA_TEXT;
    }
    if (IS_ONE_OF(type, times)) {
        return SA_TIME;
    }
    /* ENUM and SET are sorted by number but compared as text, BIT and geometry are neither. */
    *is_sortable = sa_is(type, "uuid") || sa_is(type, "inet4") || sa_is(type, "inet6");
    return sa_is(type, "bit") || !(*is_sortable || sa_is(type, "enum") || sa_is(type, "set") ||
                                   sa_is(type, "json"))
               ? SA_BLOB
               : SA_PLAIN;
}

static enum dr_code take_column(void *arg, const struct dr_value *v, uint32_t count,
                                struct dr_err *err)
{
    struct sa_table *t = arg;
    struct sa_column *c = count < 7 ? NULL : sa_new_column(t);
    char *extra = c == NULL ? NULL : sa_copy(t->arena, &v[4]);
    if (c == NULL || (extra == NULL && v[4].type != DR_V_NULL)) {
        return dr_fail_nomem(err);
    }
    c->name = sa_copy(t->arena, &v[0]);
    c->type = sa_copy(t->arena, &v[1]);
    c->whole_type = c->type;
    c->quoted = c->name == NULL ? NULL : sa_quote(t->arena, c->name);
    if (c->quoted == NULL || c->type == NULL) {
        return dr_fail_nomem(err);
    }
    c->class = class_of(&v[2], &c->is_sortable);
    c->is_nullable = sa_is(&v[3], "YES");
    /* MySQL says DEFAULT_GENERATED of an expression's default, which is stored like any other. */
    c->is_generated = extra != NULL && (strcasestr(extra, "VIRTUAL") != NULL ||
                                        strcasestr(extra, "STORED GENERATED") != NULL ||
                                        strcasestr(extra, "PERSISTENT") != NULL);
    c->is_unsigned = strcasestr(c->type, "unsigned") != NULL;
    c->param = "?";
    if (c->class == SA_DECIMAL) {
        c->param = dr_arena_printf(t->arena, "CAST(? AS DECIMAL(%lld,%lld))",
                                   (long long)sa_int(&v[5]), (long long)sa_int(&v[6]));
    }
    return c->param == NULL ? dr_fail_nomem(err) : DR_OK;
}

/* ---- indexes ---- */

static enum dr_code take_index(void *arg, const struct dr_value *v, uint32_t count,
                               struct dr_err *err)
{
    struct sa_table *t = arg;
    char *index = count < 6 ? NULL : sa_copy(t->arena, &v[0]);
    char *field = index == NULL ? NULL : sa_copy(t->arena, &v[2]);
    if (index == NULL || (field == NULL && v[2].type != DR_V_NULL)) {
        return dr_fail_nomem(err);
    }
    /* A prefix of a column, a descending part or a full text index give no order to follow. */
    bool is_unusable = v[4].type != DR_V_NULL || !sa_is(&v[5], "BTREE") || !sa_is(&v[3], "A");
    return sa_add_index_field(t, index, field, sa_int(&v[1]) == 0, sa_is(&v[0], "PRIMARY"),
                              is_unusable, err);
}

/* ---- what hangs on the table ---- */

static enum dr_code take_trigger(void *arg, const struct dr_value *v, uint32_t count,
                                 struct dr_err *err)
{
    struct sa_table *t = arg;
    char *name = count < 1 ? NULL : sa_copy(t->arena, &v[0]);
    t->triggers = name == NULL          ? NULL
                  : t->triggers == NULL ? name
                                        : dr_arena_printf(t->arena, "%s, %s", t->triggers, name);
    return t->triggers == NULL ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code take_child(void *arg, const struct dr_value *v, uint32_t count,
                               struct dr_err *err)
{
    struct sa_table *t = arg;
    char *schema = count < 3 ? NULL : sa_copy(t->arena, &v[0]);
    char *name = schema == NULL ? NULL : sa_copy(t->arena, &v[1]);
    if (name == NULL) {
        return dr_fail_nomem(err);
    }
    const char *rule = sa_is(&v[2], "CASCADE")       ? "cascade"
                       : sa_is(&v[2], "SET NULL")    ? "set null"
                       : sa_is(&v[2], "SET DEFAULT") ? "set default"
                                                     : NULL;
    if (rule == NULL && strcmp(schema, t->schema) == 0 && strcmp(name, t->name) == 0) {
        return DR_OK; /* a table that refers to itself can still be erased */
    }
    struct sa_child *child = sa_new_child(t);
    if (child == NULL) {
        return dr_fail_nomem(err);
    }
    child->rule = rule;
    child->name = dr_arena_printf(t->arena, "%s.%s", schema, name);
    return child->name == NULL ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code take_kind(void *arg, const struct dr_value *v, uint32_t count,
                              struct dr_err *err)
{
    struct sa_table *t = arg;
    (void)err;
    if (count >= 4) {
        t->is_versioned = sa_is(&v[0], "SYSTEM VERSIONED");
        t->is_view = !t->is_versioned && !sa_is(&v[0], "BASE TABLE");
        t->rows_estimate = v[1].type == DR_V_NULL ? -1 : sa_int(&v[1]);
        t->bytes = (uint64_t)sa_int(&v[2]);
        t->is_partitioned = v[3].len > 0 && memmem(v[3].data, v[3].len, "partitioned", 11) != NULL;
    }
    return DR_OK;
}

enum dr_code sa_load_mariadb(struct sa_store *s, struct sa_table *t, struct dr_err *err)
{
    static const struct {
        const char *sql;
        dr_sqldb_row_fn row;
    } asked[] = {
        {"SELECT TABLE_TYPE, TABLE_ROWS, CAST(COALESCE(DATA_LENGTH + INDEX_LENGTH, 0) AS SIGNED), "
         "CONCAT(COALESCE(CREATE_OPTIONS, ''), '') FROM information_schema.TABLES WHERE "
         "TABLE_SCHEMA = ? AND TABLE_NAME = ?",
         take_kind},
        {"SELECT COLUMN_NAME, COLUMN_TYPE, DATA_TYPE, IS_NULLABLE, EXTRA, NUMERIC_PRECISION, "
         "NUMERIC_SCALE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? "
         "ORDER BY ORDINAL_POSITION",
         take_column},
        {"SELECT INDEX_NAME, NON_UNIQUE, COLUMN_NAME, COLLATION, SUB_PART, INDEX_TYPE FROM "
         "information_schema.STATISTICS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY "
         "INDEX_NAME, SEQ_IN_INDEX",
         take_index},
        {"SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = ? AND "
         "EVENT_OBJECT_TABLE = ? ORDER BY TRIGGER_NAME",
         take_trigger},
        {"SELECT CONSTRAINT_SCHEMA, TABLE_NAME, DELETE_RULE FROM "
         "information_schema.REFERENTIAL_CONSTRAINTS WHERE UNIQUE_CONSTRAINT_SCHEMA = ? AND "
         "REFERENCED_TABLE_NAME = ? ORDER BY 1, 2",
         take_child},
    };
    static const char *const systems[] = {"mysql", "information_schema", "performance_schema",
                                          "sys"};
    struct dr_value param[2] = {sa_text(t->schema), sa_text(t->name)};
    enum dr_code rc = DR_OK;
    for (size_t i = 0; rc == DR_OK && i < sizeof asked / sizeof asked[0]; i++) {
        rc = dr_sqldb_query(s->db, asked[i].sql, param, 2, asked[i].row, t, err);
    }
    for (size_t i = 0; i < sizeof systems / sizeof systems[0]; i++) {
        t->is_system = t->is_system || strcasecmp(t->schema, systems[i]) == 0;
    }
    t->is_system = t->is_system || strncasecmp(t->name, "drover_", 7) == 0;
    if (rc == DR_OK && t->column_count == 0) {
        return dr_fail(err, DR_NOT_FOUND, "there is no table %s", t->shown);
    }
    return rc;
}

/* ---- definition ---- */

struct definition {
    struct dr_str *out;
    bool is_found;
};

/* A line of SHOW CREATE TABLE without what may change while a plan is good: plain indexes (a plan
 * makes and removes some itself), the next AUTO_INCREMENT, and everything about partitions. */
static void add_line(struct dr_str *out, const char *line, size_t len)
{
    static const char counter[] = "AUTO_INCREMENT=";
    while (len > 0 && (line[0] == ' ' || line[0] == '\t')) {
        line++;
        len--;
    }
    if (len > 0 && line[len - 1] == ',') {
        len--;
    }
    if (strncmp(line, "KEY ", 4) == 0 || strncmp(line, "FULLTEXT KEY ", 13) == 0 ||
        strncmp(line, "SPATIAL KEY ", 12) == 0) {
        return;
    }
    const char *at = line[0] == ')' ? memmem(line, len, counter, sizeof counter - 1) : NULL;
    if (at != NULL) {
        size_t head = (size_t)(at - line);
        dr_str_addn(out, line, head);
        at += sizeof counter - 1;
        while (at < line + len && *at >= '0' && *at <= '9') {
            at++;
        }
        at += at < line + len && *at == ' ';
        len -= (size_t)(at - line);
        line = at;
    }
    dr_str_addn(out, line, len);
    dr_str_addc(out, '\n');
}

static enum dr_code take_create(void *arg, const struct dr_value *v, uint32_t count,
                                struct dr_err *err)
{
    struct definition *d = arg;
    (void)err;
    if (count < 2 || (v[1].type != DR_V_TEXT && v[1].type != DR_V_BLOB)) {
        return DR_OK;
    }
    d->is_found = true;
    const char *at = v[1].data;
    const char *end = at + v[1].len;
    bool is_table = count == 2; /* a view has two columns more and one line */
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        stop = stop == NULL ? end : stop;
        bool is_last = is_table && at[0] == ')';
        add_line(d->out, at, (size_t)(stop - at));
        if (is_last) {
            break;
        }
        at = stop == end ? end : stop + 1;
    }
    return DR_OK;
}

enum dr_code sa_define_mariadb(struct sa_store *s, const char *schema, const char *name,
                               struct dr_str *out, bool *found_out, struct dr_err *err)
{
    struct definition d = {.out = out};
    struct dr_str sql;
    dr_str_init(&sql);
    dr_str_add(&sql, "SHOW CREATE TABLE ");
    dr_sql_quote_name(&sql, schema);
    dr_str_addc(&sql, '.');
    dr_sql_quote_name(&sql, name);
    enum dr_code rc = sql.is_short
                          ? dr_fail_nomem(err)
                          : dr_sqldb_query(s->db, dr_str_text(&sql), NULL, 0, take_create, &d, err);
    dr_str_fini(&sql);
    if (rc == DR_NOT_FOUND) {
        dr_err_clear(err);
        rc = DR_OK;
    }
    *found_out = d.is_found;
    return rc;
}
