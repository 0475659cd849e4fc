/* SPDX-License-Identifier: Apache-2.0 */
/* Owns what PostgreSQL's catalogs say of a table. */
#include <string.h>
#include <strings.h>

#include "store/sql/sql_private.h"

#define RELATION                                                                                   \
    "SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = "           \
    "c.relnamespace WHERE n.nspname = ?::text AND c.relname = ?::text"

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

static enum sa_class class_of(const struct dr_value *type)
{
    static const char *const ints[] = {"int2", "int4", "int8", "bool"};
    static const char *const floats[] = {"float4", "float8"};
    static const char *const texts[] = {"text", "varchar", "bpchar"};
    static const char *const times[] = {"date", "timestamp", "timestamptz", "time", "timetz"};
    if (IS_ONE_OF(type, ints)) {
        return SA_INT;
    }
    if (IS_ONE_OF(type, floats)) {
        return SA_FLOAT;
    }
    if (IS_ONE_OF(type, texts)) {
        return SA_TEXT;
    }
    if (IS_ONE_OF(type, times)) {
        return SA_TIME;
    }
    return sa_is(type, "numeric") ? SA_DECIMAL : sa_is(type, "bytea") ? SA_BLOB : SA_PLAIN;
}

static enum dr_code take_column(void *arg, const struct dr_value *v, uint32_t count,
                                struct dr_err *err)
{
    struct sa_table *t = arg;
    struct sa_column *c = count < 6 ? NULL : sa_new_column(t);
    if (c == NULL) {
        return dr_fail_nomem(err);
    }
    c->name = sa_copy(t->arena, &v[0]);
    c->type = sa_copy(t->arena, &v[1]);
    c->whole_type = sa_copy(t->arena, &v[2]);
    c->quoted = c->name == NULL ? NULL : sa_quote(t->arena, c->name);
    c->param = c->type == NULL ? NULL : dr_arena_printf(t->arena, "?::%s", c->type);
    c->class = class_of(&v[3]);
    c->is_bool = sa_is(&v[3], "bool");
    c->is_nullable = sa_int(&v[4]) == 0;
    c->is_generated = v[5].len > 0;
    c->is_sortable = true; /* it has an order whenever an index can be made of it */
    return c->quoted == NULL || c->param == NULL || c->whole_type == NULL ? dr_fail_nomem(err)
                                                                          : DR_OK;
}

static enum dr_code take_index(void *arg, const struct dr_value *v, uint32_t count,
                               struct dr_err *err)
{
    struct sa_table *t = arg;
    char *index = count < 5 ? NULL : sa_copy(t->arena, &v[0]);
    char *field = index == NULL ? NULL : sa_copy(t->arena, &v[1]);
    if (index == NULL || (field == NULL && v[1].type != DR_V_NULL)) {
        return dr_fail_nomem(err);
    }
    return sa_add_index_field(t, index, field, sa_int(&v[2]) != 0, sa_int(&v[3]) != 0,
                              sa_int(&v[4]) != 0, err);
}

static enum dr_code take_child(void *arg, const struct dr_value *v, uint32_t count,
                               struct dr_err *err)
{
    struct sa_table *t = arg;
    char *name = count < 3 ? NULL : sa_copy(t->arena, &v[0]);
    if (name == NULL) {
        return dr_fail_nomem(err);
    }
    const char *rule = sa_is(&v[1], "c")   ? "cascade"
                       : sa_is(&v[1], "n") ? "set null"
                       : sa_is(&v[1], "d") ? "set default"
                                           : NULL;
    if (rule == NULL && sa_int(&v[2]) != 0) {
        return DR_OK; /* a table that refers to itself can still be erased */
    }
    struct sa_child *child = sa_new_child(t);
    if (child == NULL) {
        return dr_fail_nomem(err);
    }
    *child = (struct sa_child){.name = name, .rule = rule};
    return DR_OK;
}

static enum dr_code take_kind(void *arg, const struct dr_value *v, uint32_t count,
                              struct dr_err *err)
{
    struct sa_table *t = arg;
    if (count < 6) {
        return DR_OK;
    }
    bool is_plain = sa_is(&v[0], "r");
    t->is_partitioned = sa_is(&v[0], "p");
    t->is_view = !is_plain && !t->is_partitioned;
    t->rows_estimate = sa_int(&v[1]);
    t->bytes = (uint64_t)sa_int(&v[2]);
    t->has_policies = sa_int(&v[4]) != 0;
    if (is_plain && sa_int(&v[3]) != 0) {
        t->from = dr_arena_printf(t->arena, "ONLY %s", t->quoted);
    }
    t->triggers = v[5].type == DR_V_NULL ? NULL : sa_copy(t->arena, &v[5]);
    return t->from == NULL || (t->triggers == NULL && v[5].type != DR_V_NULL) ? dr_fail_nomem(err)
                                                                              : DR_OK;
}

static const char kind_sql[] =
    "SELECT c.relkind::text, GREATEST(c.reltuples, -1)::bigint, "
    "CASE WHEN c.relkind IN ('r', 'p', 'm') THEN (SELECT COALESCE(sum("
    "pg_catalog.pg_total_relation_size(p.relid)), 0) FROM pg_catalog.pg_partition_tree(c.oid) "
    "p)::bigint + CASE WHEN c.relkind = 'r' AND NOT c.relispartition THEN "
    "pg_catalog.pg_total_relation_size(c.oid) ELSE 0 END ELSE 0 END, "
    "(c.relkind = 'r' AND c.relhassubclass)::int, c.relrowsecurity::int, "
    "(SELECT string_agg(x.name, ', ' ORDER BY x.name) FROM (SELECT g.tgname::text AS name FROM "
    "pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D' "
    "UNION ALL SELECT 'rule ' || w.rulename FROM pg_catalog.pg_rewrite w WHERE w.ev_class = c.oid "
    "AND w.ev_type <> '1' AND w.ev_enabled <> 'D') x) "
    "FROM pg_catalog.pg_class c WHERE c.oid = (" RELATION ")";

static const char column_sql[] =
    "SELECT a.attname::text, pg_catalog.format_type(a.atttypid, -1), "
    "pg_catalog.format_type(a.atttypid, a.atttypmod), COALESCE(b.typname, y.typname)::text, "
    "a.attnotnull::int, a.attgenerated::text FROM pg_catalog.pg_attribute a JOIN "
    "pg_catalog.pg_type y ON y.oid = a.atttypid LEFT JOIN pg_catalog.pg_type b ON y.typtype = 'd' "
    "AND b.oid = y.typbasetype WHERE a.attrelid = (" RELATION
    ") AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

/* An index whose order is not that of plain comparisons of its columns cannot be followed. */
static const char index_sql[] =
    "SELECT x.relname::text, a.attname::text, i.indisunique::int, i.indisprimary::int, "
    "(m.amname <> 'btree' OR i.indpred IS NOT NULL OR a.attname IS NULL OR NOT i.indisvalid OR "
    "i.indoption[k - 1] <> 0 OR NOT o.opcdefault OR (i.indcollation[k - 1] <> a.attcollation AND "
    "i.indcollation[k - 1] <> 0))::int FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON "
    "x.oid = i.indexrelid JOIN pg_catalog.pg_am m ON m.oid = x.relam CROSS JOIN LATERAL "
    "generate_series(1, i.indnkeyatts::int) k LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = "
    "i.indrelid AND a.attnum = i.indkey[k - 1] AND a.attnum > 0 LEFT JOIN pg_catalog.pg_opclass o "
    "ON o.oid = i.indclass[k - 1] WHERE i.indrelid = (" RELATION ") ORDER BY x.relname, k";

static const char child_sql[] =
    "SELECT n.nspname || '.' || r.relname, f.confdeltype::text, (f.conrelid = f.confrelid)::int "
    "FROM pg_catalog.pg_constraint f JOIN pg_catalog.pg_class r ON r.oid = f.conrelid JOIN "
    "pg_catalog.pg_namespace n ON n.oid = r.relnamespace WHERE f.contype = 'f' AND f.conparentid "
    "= 0 AND f.confrelid = (" RELATION ") ORDER BY 1, f.conname";

enum dr_code sa_load_postgres(struct sa_store *s, struct sa_table *t, struct dr_err *err)
{
    static const struct {
        const char *sql;
        dr_sqldb_row_fn row;
    } asked[] = {
        {kind_sql, take_kind},
        {column_sql, take_column},
        {index_sql, take_index},
        {child_sql, take_child},
    };
    struct dr_value param[2] = {sa_text(t->schema), sa_text(t->name)};
    enum dr_code rc = DR_OK;
    for (size_t i = 0; rc == DR_OK && i < sizeof asked / sizeof asked[0]; i++) {
        rc = dr_sqldb_query(s->db, asked[i].sql, param, 2, asked[i].row, t, err);
    }
    t->is_system = strncmp(t->schema, "pg_", 3) == 0 ||
                   strcmp(t->schema, "information_schema") == 0 ||
                   strncasecmp(t->name, "drover_", 7) == 0;
    return rc;
}

/* ---- definition ---- */

/* Plain indexes and partitions are left out: a plan makes and removes indexes itself. */
static const char define_sql[] =
    "WITH r AS (" RELATION ") SELECT string_agg(d.line, chr(10) ORDER BY d.line) FROM ("
    "SELECT 'column ' || lpad(a.attnum::text, 5) || ' ' || quote_ident(a.attname) || ' ' || "
    "format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || ' ' || a.attgenerated::text || "
    "a.attidentity::text || ' ' || a.attcollation || ' ' || CASE WHEN a.attgenerated <> '' THEN "
    "COALESCE(pg_get_expr(e.adbin, e.adrelid), '') ELSE '' END AS line FROM "
    "pg_catalog.pg_attribute a JOIN r ON a.attrelid = r.oid LEFT JOIN pg_catalog.pg_attrdef e ON "
    "e.adrelid = a.attrelid AND e.adnum = a.attnum WHERE a.attnum > 0 AND NOT a.attisdropped "
    "UNION ALL SELECT 'kind ' || c.relkind::text FROM pg_catalog.pg_class c JOIN r USING (oid) "
    "UNION ALL SELECT 'unique ' || pg_get_indexdef(i.indexrelid) FROM pg_catalog.pg_index i JOIN r "
    "ON i.indrelid = r.oid WHERE i.indisunique "
    "UNION ALL SELECT 'trigger ' || g.tgname || ' ' || g.tgenabled::text || ' ' || g.tgtype FROM "
    "pg_catalog.pg_trigger g JOIN r ON g.tgrelid = r.oid WHERE NOT g.tgisinternal "
    "UNION ALL SELECT 'rule ' || w.rulename || ' ' || w.ev_enabled::text FROM "
    "pg_catalog.pg_rewrite w "
    "JOIN r ON w.ev_class = r.oid "
    "UNION ALL SELECT 'child ' || f.conrelid || ' ' || f.conname || ' ' || f.confdeltype::text "
    "FROM "
    "pg_catalog.pg_constraint f JOIN r ON f.confrelid = r.oid WHERE f.contype = 'f') d";

struct definition {
    struct dr_str *out;
    bool is_found;
};

static enum dr_code take_text(void *arg, const struct dr_value *v, uint32_t count,
                              struct dr_err *err)
{
    struct definition *d = arg;
    (void)err;
    if (count > 0 && v[0].type == DR_V_TEXT) {
        d->is_found = true;
        dr_str_addn(d->out, v[0].data, v[0].len);
    }
    return DR_OK;
}

enum dr_code sa_define_postgres(struct sa_store *s, const char *schema, const char *name,
                                struct dr_str *out, bool *found_out, struct dr_err *err)
{
    struct definition d = {.out = out};
    struct dr_value param[2] = {sa_text(schema), sa_text(name)};
    enum dr_code rc = dr_sqldb_query(s->db, define_sql, param, 2, take_text, &d, err);
    *found_out = d.is_found;
    return rc;
}
