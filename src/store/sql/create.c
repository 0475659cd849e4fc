/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the text that makes a table again. MariaDB tells it; for PostgreSQL it is put together from
 * the catalogs, in the server's own words (pg_get_...def), for ordinary tables. What cannot be told
 * exactly is not told at all, and the warning says why. */
#include <string.h>

#include "store/sql/sql_private.h"

static enum dr_code keep(struct dr_str *text, struct dr_arena *a, const char **out,
                         struct dr_err *err)
{
    *out = text->is_short ? NULL : dr_arena_strdup(a, dr_str_text(text));
    return *out == NULL ? dr_fail_nomem(err) : DR_OK;
}

/* ---- MariaDB ---- */

struct shown {
    const struct sa_table *table;
    struct dr_str *out;
};

/* "CREATE TABLE "name" (": the name gets its schema. */
static enum dr_code take_shown(void *arg, const struct dr_value *v, uint32_t count,
                               struct dr_err *err)
{
    struct shown *s = arg;
    struct dr_str head;
    static const char create[] = "CREATE TABLE ";
    dr_str_init(&head);
    dr_str_add(&head, create);
    dr_sql_quote_name(&head, s->table->name);
    bool is_known =
        count == 2 && v[1].len > head.len && memcmp(v[1].data, head.data, head.len) == 0;
    if (is_known) {
        dr_str_addf(s->out, "%s%s", create, s->table->quoted);
        dr_str_addn(s->out, (const char *)v[1].data + head.len, v[1].len - head.len);
    }
    bool is_short = head.is_short;
    dr_str_fini(&head);
    return is_short ? dr_fail_nomem(err) : DR_OK;
}

static enum dr_code create_mariadb(struct sa_store *s, const struct sa_table *t, struct dr_str *out,
                                   struct dr_err *err)
{
    struct dr_str sql;
    struct shown shown = {.table = t, .out = out};
    dr_str_init(&sql);
    dr_str_addf(&sql, "SHOW CREATE TABLE %s", t->quoted);
    enum dr_code rc =
        sql.is_short ? dr_fail_nomem(err)
                     : dr_sqldb_query(s->db, dr_str_text(&sql), NULL, 0, take_shown, &shown, err);
    dr_str_fini(&sql);
    return rc;
}

/* ---- PostgreSQL ---- */

#define RELATION                                                                                   \
    "(SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = "          \
    "c.relnamespace WHERE n.nspname = ?::text AND c.relname = ?::text)"

/* Reasons not to try; no row: an ordinary table. */
static const char odd_sql[] =
    "SELECT CASE WHEN c.relkind <> 'r' THEN 'it is partitioned' WHEN c.relispartition THEN 'it is "
    "a partition' WHEN c.relhassubclass OR EXISTS (SELECT 1 FROM pg_catalog.pg_inherits i WHERE "
    "i.inhrelid = c.oid) THEN 'it inherits' WHEN c.reloftype <> 0 THEN 'it is of a type' WHEN "
    "c.relrowsecurity OR c.relforcerowsecurity THEN 'it has row level security' WHEN EXISTS "
    "(SELECT "
    "1 FROM pg_catalog.pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal) THEN 'it has "
    "triggers' WHEN c.relhasrules THEN 'it has rules' WHEN c.relacl IS NOT NULL THEN 'it has "
    "grants' WHEN EXISTS (SELECT 1 FROM pg_catalog.pg_description d WHERE d.classoid = "
    "'pg_catalog.pg_class'::regclass AND d.objoid = c.oid) THEN 'it has comments' WHEN "
    "c.relreplident <> 'd' THEN 'it has a replica identity' WHEN EXISTS (SELECT 1 FROM "
    "pg_catalog.pg_publication_rel p WHERE p.prrelid = c.oid) THEN 'it is published' WHEN EXISTS "
    "(SELECT 1 FROM pg_catalog.pg_statistic_ext e WHERE e.stxrelid = c.oid) THEN 'it has extended "
    "statistics' WHEN EXISTS (SELECT 1 FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type y ON "
    "y.oid = a.atttypid WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND "
    "(a.attstorage <> y.typstorage OR a.attacl IS NOT NULL OR EXISTS (SELECT 1 FROM "
    "unnest(a.attoptions) v WHERE v ~ '^n_distinct') OR "
    "a.attstattarget NOT IN (-1) OR a.attcompression <> '')) THEN 'columns have options' END FROM "
    "pg_catalog.pg_class c WHERE c.oid = " RELATION;

/* Sequences that belong to columns (serial), each going on where it stands now. */
static const char sequence_sql[] =
    "SELECT 'CREATE SEQUENCE ' || quote_ident(n.nspname) || '.' || quote_ident(x.relname) || ' AS "
    "' "
    "|| format_type(q.seqtypid, NULL) || ' INCREMENT BY ' || q.seqincrement || ' MINVALUE ' || "
    "q.seqmin || ' MAXVALUE ' || q.seqmax || ' START WITH ' || COALESCE(pg_sequence_last_value("
    "x.oid) + q.seqincrement, q.seqstart) || ' CACHE ' || q.seqcache || CASE WHEN q.seqcycle THEN "
    "' CYCLE' ELSE '' END, 'ALTER SEQUENCE ' || quote_ident(n.nspname) || '.' || "
    "quote_ident(x.relname) || ' OWNED BY ' || r.name || '.' || quote_ident(a.attname) FROM "
    "(SELECT " RELATION " AS oid, ?::text AS name) r JOIN pg_catalog.pg_depend d ON d.refobjid = "
    "r.oid AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.classid = "
    "'pg_catalog.pg_class'::regclass AND d.deptype = 'a' JOIN pg_catalog.pg_class x ON x.oid = "
    "d.objid AND x.relkind = 'S' JOIN pg_catalog.pg_sequence q ON q.seqrelid = x.oid JOIN "
    "pg_catalog.pg_namespace n ON n.oid = x.relnamespace JOIN pg_catalog.pg_attribute a ON "
    "a.attrelid = r.oid AND a.attnum = d.refobjsubid ORDER BY 1";

static const char line_sql[] =
    "SELECT quote_ident(a.attname) || ' ' || format_type(a.atttypid, a.atttypmod) || CASE WHEN "
    "a.attcollation <> y.typcollation THEN ' COLLATE ' || quote_ident(m.nspname) || '.' || "
    "quote_ident(o.collname) ELSE '' END || CASE WHEN a.attgenerated = 's' THEN ' GENERATED ALWAYS "
    "AS (' || pg_get_expr(e.adbin, e.adrelid) || ') STORED' WHEN a.attidentity <> '' THEN ' "
    "GENERATED ' || CASE a.attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END || ' AS "
    "IDENTITY "
    "(INCREMENT BY ' || q.seqincrement || ' MINVALUE ' || q.seqmin || ' MAXVALUE ' || q.seqmax || "
    "' "
    "START WITH ' || COALESCE(pg_sequence_last_value(q.seqrelid) + q.seqincrement, q.seqstart) || "
    "' "
    "CACHE ' || q.seqcache || CASE WHEN q.seqcycle THEN ' CYCLE' ELSE '' END || ')' WHEN e.adbin "
    "IS "
    "NOT NULL THEN ' DEFAULT ' || pg_get_expr(e.adbin, e.adrelid) ELSE '' END || CASE WHEN "
    "a.attnotnull THEN ' NOT NULL' ELSE '' END FROM (SELECT " RELATION " AS oid) r JOIN "
    "pg_catalog.pg_attribute a ON a.attrelid = r.oid JOIN pg_catalog.pg_type y ON y.oid = "
    "a.atttypid LEFT JOIN pg_catalog.pg_collation o ON o.oid = a.attcollation LEFT JOIN "
    "pg_catalog.pg_namespace m ON m.oid = o.collnamespace LEFT JOIN pg_catalog.pg_attrdef e ON "
    "e.adrelid = a.attrelid AND e.adnum = a.attnum LEFT JOIN pg_catalog.pg_depend d ON d.refobjid "
    "= "
    "a.attrelid AND d.refobjsubid = a.attnum AND d.deptype = 'i' AND d.classid = "
    "'pg_catalog.pg_class'::regclass AND a.attidentity <> '' LEFT JOIN pg_catalog.pg_sequence q ON "
    "q.seqrelid = d.objid WHERE a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

static const char constraint_sql[] =
    "SELECT 'CONSTRAINT ' || quote_ident(f.conname) || ' ' || pg_get_constraintdef(f.oid) FROM "
    "pg_catalog.pg_constraint f WHERE f.conrelid = " RELATION " AND f.contype IN ('p', 'u', 'c', "
    "'f', 'x') ORDER BY position(f.contype::text in 'puxcf'), f.conname";

static const char tail_sql[] =
    "SELECT CASE WHEN c.reloptions IS NULL THEN '' ELSE ' WITH (' || array_to_string(c.reloptions, "
    "', ') || ')' END || CASE WHEN s.spcname IS NULL THEN '' ELSE ' TABLESPACE ' || "
    "quote_ident(s.spcname) END, CASE WHEN c.relpersistence = 'u' THEN 'UNLOGGED ' ELSE '' END "
    "FROM "
    "pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_tablespace s ON s.oid = c.reltablespace WHERE "
    "c.oid = " RELATION;

static const char index_sql[] =
    "SELECT pg_get_indexdef(i.indexrelid) FROM pg_catalog.pg_index i WHERE i.indrelid = " RELATION
    " AND i.indisvalid AND NOT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint f WHERE f.conindid = "
    "i.indexrelid AND f.conrelid = i.indrelid AND f.contype IN ('p', 'u', 'x')) ORDER BY 1";

struct pieces {
    struct dr_str text;
    const char *between;
    struct dr_str second; /* of the rows' second column */
    bool has_second;
};

static void add_piece(struct dr_str *to, const char *between, const struct dr_value *v)
{
    if (v->type == DR_V_TEXT) {
        dr_str_add(to, to->len > 0 ? between : "");
        dr_str_addn(to, v->data, v->len);
    }
}

static enum dr_code take_piece(void *arg, const struct dr_value *v, uint32_t count,
                               struct dr_err *err)
{
    struct pieces *p = arg;
    (void)err;
    add_piece(&p->text, p->between, &v[0]);
    if (count > 1) {
        add_piece(&p->second, p->between, &v[1]);
    }
    return DR_OK;
}

static enum dr_code ask_pieces(struct sa_store *s, const struct sa_table *t, const char *sql,
                               bool with_name, struct pieces *p, struct dr_err *err)
{
    struct dr_value param[3] = {sa_text(t->schema), sa_text(t->name), sa_text(t->quoted)};
    return dr_sqldb_query(s->db, sql, param, with_name ? 3 : 2, take_piece, p, err);
}

enum { PIECES = 6, P_ODD = 0, P_SEQUENCE, P_LINE, P_CONSTRAINT, P_TAIL, P_INDEX };

static enum dr_code create_postgres(struct sa_store *s, const struct sa_table *t,
                                    struct dr_str *out, struct dr_str *warning, struct dr_err *err)
{
    static const struct {
        const char *sql;
        const char *between;
    } asked[PIECES] = {
        [P_ODD] = {odd_sql, ""},          [P_SEQUENCE] = {sequence_sql, ";\n"},
        [P_LINE] = {line_sql, ",\n    "}, [P_CONSTRAINT] = {constraint_sql, ",\n    "},
        [P_TAIL] = {tail_sql, ""},        [P_INDEX] = {index_sql, ";\n"},
    };
    struct pieces p[PIECES];
    enum dr_code rc = DR_OK;
    for (int i = 0; i < PIECES; i++) {
        p[i] = (struct pieces){.between = asked[i].between};
        dr_str_init(&p[i].text);
        dr_str_init(&p[i].second);
    }
    for (int i = 0; rc == DR_OK && i < PIECES; i++) {
        rc = ask_pieces(s, t, asked[i].sql, i == P_SEQUENCE, &p[i], err);
        if (i == P_ODD && p[i].text.len > 0) {
            dr_str_addf(warning, "%sit could not be made again exactly: %s",
                        warning->len > 0 ? "; " : "", dr_str_text(&p[i].text));
            goto out;
        }
    }
    if (p[P_SEQUENCE].text.len > 0) {
        dr_str_addf(out, "%s;\n", dr_str_text(&p[P_SEQUENCE].text));
    }
    dr_str_addf(out, "CREATE %sTABLE %s (\n    %s", dr_str_text(&p[P_TAIL].second), t->quoted,
                dr_str_text(&p[P_LINE].text));
    dr_str_addf(out, "%s%s)%s", p[P_CONSTRAINT].text.len > 0 ? ",\n    " : "",
                dr_str_text(&p[P_CONSTRAINT].text), dr_str_text(&p[P_TAIL].text));
    if (p[P_SEQUENCE].second.len > 0) {
        dr_str_addf(out, ";\n%s", dr_str_text(&p[P_SEQUENCE].second));
    }
    if (p[P_INDEX].text.len > 0) {
        dr_str_addf(out, ";\n%s", dr_str_text(&p[P_INDEX].text));
    }
out:
    for (int i = 0; i < PIECES; i++) {
        rc = rc == DR_OK && (p[i].text.is_short || p[i].second.is_short) ? dr_fail_nomem(err) : rc;
        dr_str_fini(&p[i].text);
        dr_str_fini(&p[i].second);
    }
    return rc;
}

enum dr_code sa_create_text(struct sa_store *s, const struct sa_table *t, struct dr_arena *a,
                            const char **out, struct dr_str *warning, struct dr_err *err)
{
    struct dr_str text;
    *out = NULL;
    dr_str_init(&text);
    enum dr_code rc =
        s->is_pg ? create_postgres(s, t, &text, warning, err) : create_mariadb(s, t, &text, err);
    if (rc == DR_OK && text.len > 0) {
        rc = keep(&text, a, out, err);
    }
    dr_str_fini(&text);
    return rc;
}
