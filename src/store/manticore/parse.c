/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of commands into structs. A text is understood wholly or refused: nothing reaches a node
 * that this file has not seen the end of. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "store/manticore/manticore_private.h"

struct lex {
    const char *at;
    const char *start;
    struct dr_arena *arena;
    bool is_short;
};

static void skip_space(struct lex *l)
{
    while (isspace((unsigned char)*l->at)) {
        l->at++;
    }
}

static bool is_name_byte(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

bool mt_name_is_fine(const char *name, bool may_be_system)
{
    if (may_be_system && strncasecmp(name, "system.", 7) == 0) {
        name += 7;
    }
    size_t bytes = strlen(name);
    if (bytes == 0 || bytes > MT_NAME_BYTES_MAX || isdigit((unsigned char)name[0])) {
        return false;
    }
    for (size_t i = 0; i < bytes; i++) {
        if (!is_name_byte(name[i])) {
            return false;
        }
    }
    return true;
}

/* One word of the language, upper or lower case. */
static bool take_word(struct lex *l, const char *word)
{
    skip_space(l);
    size_t bytes = strlen(word);
    if (strncasecmp(l->at, word, bytes) != 0 ||
        (is_name_byte(word[bytes - 1]) && is_name_byte(l->at[bytes]))) {
        return false;
    }
    l->at += bytes;
    return true;
}

static bool take_words(struct lex *l, const char *first, const char *second, const char *third)
{
    const char *before = l->at;
    if (take_word(l, first) && take_word(l, second) && (third == NULL || take_word(l, third))) {
        return true;
    }
    l->at = before;
    return false;
}

static const char *keep(struct lex *l, const char *text, size_t bytes)
{
    char *copy = dr_arena_memdup(l->arena, text, bytes + 1);
    if (copy == NULL) {
        l->is_short = true;
        return NULL;
    }
    copy[bytes] = '\0';
    return copy;
}

/* name, `name` or "system.name" when it may be; NULL when there is none. */
static const char *take_name(struct lex *l, bool may_be_system)
{
    skip_space(l);
    const char *from = l->at;
    bool is_quoted = *from == '`';
    const char *end = from + is_quoted;
    while (is_name_byte(*end) || (may_be_system && *end == '.')) {
        end++;
    }
    size_t bytes = (size_t)(end - from) - is_quoted;
    if (is_quoted && *end != '`') {
        return NULL;
    }
    const char *name = keep(l, from + is_quoted, bytes);
    if (name == NULL || !mt_name_is_fine(name, may_be_system)) {
        return NULL;
    }
    l->at = end + is_quoted;
    return name;
}

/* Tables are kept in lower case whatever was said. */
static const char *take_table(struct lex *l)
{
    const char *name = take_name(l, true);
    char *lower = name == NULL ? NULL : dr_arena_strdup(l->arena, name);
    if (name != NULL && lower == NULL) {
        l->is_short = true;
    }
    for (char *p = lower; p != NULL && *p != '\0'; p++) {
        *p = (char)tolower((unsigned char)*p);
    }
    return lower;
}

/* 'text' with \' inside; NULL when there is none or it does not end. */
static const char *take_text(struct lex *l)
{
    skip_space(l);
    if (*l->at != '\'') {
        return NULL;
    }
    const char *end = l->at + 1;
    while (*end != '\0' && *end != '\'') {
        end += *end == '\\' && end[1] != '\0' ? 2 : 1;
    }
    if (*end == '\0') {
        return NULL;
    }
    size_t bytes = (size_t)(end - l->at) - 1;
    char *text = dr_arena_alloc(l->arena, bytes + 1);
    if (text == NULL) {
        l->is_short = true;
        return NULL;
    }
    size_t n = 0;
    for (const char *p = l->at + 1; p < end; p++) {
        p += *p == '\\';
        text[n++] = *p;
    }
    text[n] = '\0';
    l->at = end + 1;
    return text;
}

static bool take_end(struct lex *l)
{
    skip_space(l);
    return *l->at == '\0';
}

/* What stands between "(" and its ")"; quotes hide parentheses. */
static const char *take_parentheses(struct lex *l)
{
    unsigned depth = 0;
    char quote = '\0';
    skip_space(l);
    if (*l->at != '(') {
        return NULL;
    }
    const char *from = l->at + 1;
    for (const char *p = l->at; *p != '\0'; p++) {
        if (quote != '\0') {
            p += *p == '\\' && p[1] != '\0';
            quote = *p == quote ? '\0' : quote;
        } else if (*p == '\'' || *p == '`' || *p == '"') {
            quote = *p;
        } else if (*p == ';') {
            return NULL;
        } else if (*p == '(') {
            depth++;
        } else if (*p == ')' && --depth == 0) {
            l->at = p + 1;
            return keep(l, from, (size_t)(p - from));
        }
    }
    return NULL;
}

static enum dr_code fail_at(const struct lex *l, struct dr_err *err)
{
    return l->is_short
               ? dr_fail_nomem(err)
               : dr_fail(err, DR_INPUT, "Manticore command \"%.200s\": not understood at \"%.60s\"",
                         l->start, l->at);
}

static bool set_table(struct lex *l, struct mt_command *c, const char *table)
{
    c->table = dr_arena_alloc(l->arena, sizeof *c->table);
    l->is_short = l->is_short || c->table == NULL;
    if (c->table == NULL || table == NULL) {
        return false;
    }
    c->table[0] = table;
    c->table_count = 1;
    return true;
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool add_clause(struct lex *l, struct mt_command *c, const char *key, const char *value)
{
    const char **more = dr_arena_alloc(l->arena, (c->clause_count + 1) * sizeof *more);
    char *clause = dr_arena_printf(l->arena, "%s=%s", key, value);
    if (more == NULL || clause == NULL) {
        l->is_short = true;
        return false;
    }
    if (c->clause_count > 0) {
        memcpy(more, c->clause, c->clause_count * sizeof *more);
    }
    more[c->clause_count++] = clause;
    c->clause = more;
    return true;
}

/* [IF NOT EXISTS] name (columns) key='value' ... */
static bool take_create_table(struct lex *l, struct mt_command *c)
{
    bool is_real = true;
    c->is_if_exists = take_words(l, "IF", "NOT", "EXISTS");
    if (!set_table(l, c, take_table(l)) || (c->columns = take_parentheses(l)) == NULL) {
        return false;
    }
    while (!take_end(l)) {
        const char *key = take_name(l, false);
        const char *value = key != NULL && take_word(l, "=") ? take_text(l) : NULL;
        if (value == NULL) {
            return false;
        }
        bool is_part = strcasecmp(key, "local") == 0 || strcasecmp(key, "agent") == 0;
        if (is_part && !add_clause(l, c, key, value)) {
            return false;
        }
        if (strcasecmp(key, "type") == 0) {
            is_real = strcasecmp(value, "rt") == 0;
        }
    }
    if (c->clause_count > 0) {
        qsort(c->clause, c->clause_count, sizeof *c->clause, compare_texts);
    }
    c->verb = is_real ? MT_CREATE_TABLE : MT_CREATE_WRAPPER;
    return is_real == (c->clause_count == 0);
}

static bool take_drop_table(struct lex *l, struct mt_command *c)
{
    c->verb = MT_DROP_TABLE;
    c->is_if_exists = take_words(l, "IF", "EXISTS", NULL);
    if (!set_table(l, c, take_table(l))) {
        return false;
    }
    if (take_words(l, "OPTION", "force", "=")) {
        c->is_forced = take_word(l, "1");
        return c->is_forced && take_end(l);
    }
    return take_end(l);
}

/* c ['p' as path]   and   c AT 'host:port' ['p' as path] */
static bool take_make_cluster(struct lex *l, struct mt_command *c, enum mt_verb verb)
{
    c->verb = verb;
    c->cluster = take_name(l, false);
    if (c->cluster == NULL) {
        return false;
    }
    if (verb == MT_JOIN_CLUSTER) {
        if (!take_word(l, "AT") || (c->at = take_text(l)) == NULL || strchr(c->at, ':') == NULL) {
            return false;
        }
    }
    if (!take_end(l)) {
        c->path = take_text(l);
        return c->path != NULL && mt_name_is_fine(c->path, false) &&
               take_words(l, "AS", "path", NULL) && take_end(l);
    }
    return true;
}

static bool take_tables(struct lex *l, struct mt_command *c)
{
    c->table = dr_arena_alloc(l->arena, MT_TABLES_MAX * sizeof *c->table);
    if (c->table == NULL) {
        l->is_short = true;
        return false;
    }
    do {
        const char *table = c->table_count < MT_TABLES_MAX ? take_table(l) : NULL;
        if (table == NULL) {
            return false;
        }
        c->table[c->table_count++] = table;
    } while (take_word(l, ","));
    return take_end(l);
}

static bool take_alter_cluster(struct lex *l, struct mt_command *c)
{
    c->cluster = take_name(l, false);
    if (c->cluster == NULL) {
        return false;
    }
    if (take_words(l, "UPDATE", "nodes", NULL)) {
        c->verb = MT_ALTER_UPDATE;
        return take_end(l);
    }
    bool is_add = take_word(l, "ADD");
    c->verb = is_add ? MT_ALTER_ADD : MT_ALTER_DROP;
    return (is_add || take_word(l, "DROP")) && take_tables(l, c);
}

static bool take_one_cluster(struct lex *l, struct mt_command *c, enum mt_verb verb)
{
    c->verb = verb;
    c->cluster = take_name(l, false);
    if (c->cluster == NULL) {
        return false;
    }
    if (verb == MT_BOOTSTRAP) {
        const char *key = take_word(l, "GLOBAL") ? take_text(l) : NULL;
        return key != NULL && strcmp(key, "pc.bootstrap") == 0 && take_word(l, "=") &&
               take_word(l, "1") && take_end(l);
    }
    return take_end(l);
}

static enum dr_code parse_sql(struct lex *l, struct mt_command *c, struct dr_err *err)
{
    bool is_fine;
    if (take_words(l, "CREATE", "TABLE", NULL)) {
        is_fine = take_create_table(l, c);
    } else if (take_words(l, "DROP", "TABLE", NULL)) {
        is_fine = take_drop_table(l, c);
    } else if (take_words(l, "CREATE", "CLUSTER", NULL)) {
        is_fine = take_make_cluster(l, c, MT_CREATE_CLUSTER);
    } else if (take_words(l, "JOIN", "CLUSTER", NULL)) {
        is_fine = take_make_cluster(l, c, MT_JOIN_CLUSTER);
    } else if (take_words(l, "ALTER", "CLUSTER", NULL)) {
        is_fine = take_alter_cluster(l, c);
    } else if (take_words(l, "DELETE", "CLUSTER", NULL)) {
        is_fine = take_one_cluster(l, c, MT_DELETE_CLUSTER);
    } else if (take_words(l, "EXIT", "CLUSTER", NULL)) {
        is_fine = take_one_cluster(l, c, MT_EXIT_CLUSTER);
    } else if (take_words(l, "SET", "CLUSTER", NULL)) {
        is_fine = take_one_cluster(l, c, MT_BOOTSTRAP);
    } else {
        return dr_fail(err, DR_REFUSED,
                       "\"%.200s\" is none of the commands drover gives to Manticore: CREATE and "
                       "DROP TABLE; CREATE, JOIN, ALTER, DELETE, EXIT and SET CLUSTER",
                       l->start);
    }
    return is_fine && !l->is_short ? DR_OK : fail_at(l, err);
}

/* --- {"manticore": ...} ------------------------------------------------------------------------
 */
static const struct {
    const char *name;
    enum mt_verb verb;
    bool has_cluster, has_table, has_node;
} words[] = {
    {"wait-synced", MT_WAIT_SYNCED, true, false, false},
    {"wait-unused", MT_WAIT_UNUSED, false, true, false},
    {"same-count", MT_SAME_COUNT, false, true, true},
    {"drop-shard", MT_DROP_SHARD, false, true, false},
    {"publish", MT_PUBLISH, false, false, false},
    {"withdraw", MT_WITHDRAW, false, true, false},
    {"leave", MT_LEAVE, true, true, false},
};
enum { WORDS = sizeof words / sizeof words[0] };

static enum dr_code parse_publish(struct dr_arena *a, const char *create, struct mt_command *c,
                                  struct dr_err *err)
{
    const char *rest = create;
    enum dr_code rc = mt_parse_next(&rest, a, &c->inner, err);
    if (rc != DR_OK) {
        return rc;
    }
    if (c->inner == NULL || c->inner->verb != MT_CREATE_WRAPPER || *rest != '\0') {
        return dr_fail(err, DR_INPUT, "\"create\" is not one CREATE TABLE of a sharded table");
    }
    c->table = c->inner->table;
    c->table_count = 1;
    return DR_OK;
}

static enum dr_code check_names(const struct mt_command *c, struct dr_err *err)
{
    if (c->cluster != NULL && !mt_name_is_fine(c->cluster, false)) {
        return dr_fail(err, DR_INPUT, "\"%.100s\" is no name of a cluster", c->cluster);
    }
    if (c->table_count > 0 && !mt_name_is_fine(c->table[0], true)) {
        return dr_fail(err, DR_INPUT, "\"%.100s\" is no name of a table", c->table[0]);
    }
    if (c->node != NULL && strchr(c->node, ':') == NULL) {
        return dr_fail(err, DR_INPUT, "\"%.100s\" is no host:port", c->node);
    }
    return DR_OK;
}

static enum dr_code read_fields(struct lex *l, const json_t *j, struct mt_command *c,
                                struct dr_err *err)
{
    struct dr_jr r;
    const char *word = "", *table = NULL, *create = NULL;
    size_t w = 0;
    dr_jr_init(&r, j, "command", err);
    (void)dr_jr_string(&r, "manticore", true, &word);
    while (w < WORDS && strcmp(words[w].name, word) != 0) {
        w++;
    }
    if (r.rc == DR_OK && w == WORDS) {
        return dr_fail(err, DR_REFUSED, "Manticore command \"%.64s\" is unknown", word);
    }
    bool is_known = w < WORDS;
    c->verb = is_known ? words[w].verb : MT_LEAVE;
    (void)dr_jr_string(&r, "cluster", is_known && words[w].has_cluster, &c->cluster);
    (void)dr_jr_string(&r, "table", is_known && words[w].has_table, &table);
    (void)dr_jr_string(&r, "node", is_known && words[w].has_node, &c->node);
    (void)dr_jr_string(&r, "create", is_known && words[w].verb == MT_PUBLISH, &create);
    (void)dr_jr_u64(&r, "size", is_known && words[w].verb == MT_WAIT_SYNCED, 1, 1000, &c->size);
    (void)dr_jr_string(&r, "without", false, &c->without);
    (void)dr_jr_bool(&r, "only_empty", false, &c->is_only_empty);
    enum dr_code rc = dr_jr_finish(&r);
    if (rc == DR_OK && table != NULL && !set_table(l, c, keep(l, table, strlen(table)))) {
        return dr_fail_nomem(err);
    }
    c->cluster = c->cluster == NULL ? NULL : keep(l, c->cluster, strlen(c->cluster));
    c->node = c->node == NULL ? NULL : keep(l, c->node, strlen(c->node));
    c->without = c->without == NULL ? NULL : keep(l, c->without, strlen(c->without));
    if (rc == DR_OK && create != NULL) {
        rc = parse_publish(l->arena, create, c, err);
    }
    if (rc == DR_OK && l->is_short) {
        rc = dr_fail_nomem(err);
    }
    return rc == DR_OK ? check_names(c, err) : rc;
}

static enum dr_code parse_json(struct lex *l, struct mt_command *c, struct dr_err *err)
{
    json_t *j = NULL;
    enum dr_code rc = dr_json_parse("Manticore command", l->at, strlen(l->at), &j, err);
    if (rc == DR_OK) {
        rc = read_fields(l, j, c, err);
    }
    json_decref(j);
    return rc;
}

/* Where the command at `text` ends: a newline outside of quotes and parentheses. */
static const char *find_end(const char *text)
{
    unsigned depth = 0;
    char quote = '\0';
    if (*text == '{') {
        return text + strcspn(text, "\n");
    }
    const char *p = text;
    for (; *p != '\0'; p++) {
        if (quote != '\0') {
            p += *p == '\\' && p[1] != '\0';
            quote = *p == quote ? '\0' : quote;
        } else if (*p == '\'' || *p == '`') {
            quote = *p;
        } else if (*p == '\n' && depth == 0) {
            break;
        } else if (*p == '(') {
            depth++;
        } else if (*p == ')' && depth > 0) {
            depth--;
        }
    }
    return p;
}

enum dr_code mt_parse_next(const char **text, struct dr_arena *a, const struct mt_command **out,
                           struct dr_err *err)
{
    const char *from = *text + strspn(*text, " \t\r\n");
    *out = NULL;
    if (*from == '\0') {
        *text = from;
        return DR_OK;
    }
    const char *end = find_end(from);
    struct lex l = {.arena = a};
    struct mt_command *c = dr_arena_alloc(a, sizeof *c);
    l.start = keep(&l, from, (size_t)(end - from));
    if (c == NULL || l.start == NULL) {
        return dr_fail_nomem(err);
    }
    *c = (struct mt_command){.text = l.start};
    l.at = l.start;
    enum dr_code rc = *l.at == '{' ? parse_json(&l, c, err) : parse_sql(&l, c, err);
    if (rc == DR_OK) {
        *text = end + strspn(end, " \t\r\n");
        *out = c;
    }
    return rc;
}

enum dr_code mt_parse_shown(const char *text, struct dr_arena *a, const struct mt_command **out,
                            struct dr_err *err)
{
    struct lex l = {.arena = a, .start = text, .at = text};
    struct mt_command *c = dr_arena_alloc(a, sizeof *c);
    *out = NULL;
    if (c == NULL) {
        return dr_fail_nomem(err);
    }
    *c = (struct mt_command){.text = text};
    bool is_create = take_words(&l, "CREATE", "TABLE", NULL);
    /* Options of other shapes, and a wrapper that shows no parts, are no mistakes here. */
    bool is_whole = is_create && take_create_table(&l, c);
    if (l.is_short || (!is_whole && c->columns == NULL)) {
        return fail_at(&l, err);
    }
    *out = c;
    return DR_OK;
}

/* --- comparing ---------------------------------------------------------------------------------
 */
struct column {
    const char *name, *type;
    size_t name_bytes, type_bytes;
};

/* "name type ..." up to the next comma outside of quotes and parentheses; false at the end. */
static bool next_column(const char **at, struct column *out)
{
    const char *p = *at + strspn(*at, " \t\r\n,`");
    if (*p == '\0') {
        return false;
    }
    out->name = p;
    out->name_bytes = strspn(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");
    p += out->name_bytes;
    p += strspn(p, " \t\r\n`");
    out->type = p;
    out->type_bytes = strspn(p, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_");
    char quote = '\0';
    unsigned depth = 0;
    for (; *p != '\0'; p++) {
        if (quote != '\0') {
            quote = *p == quote ? '\0' : quote;
        } else if (*p == '\'') {
            quote = *p;
        } else if (*p == ',' && depth == 0) {
            break;
        } else if (*p == '(' || *p == ')') {
            depth += *p == '(' ? 1 : (depth > 0 ? UINT32_MAX : 0);
        }
    }
    *at = p;
    return true;
}

/* Names of types that say the same. */
static bool types_equal(const struct column *a, const struct column *b)
{
    static const char *const same[][2] = {
        {"integer", "int"}, {"uint", "int"}, {"mva", "multi"}, {"mva64", "multi64"}};
    const char *name[2] = {a->type, b->type};
    size_t bytes[2] = {a->type_bytes, b->type_bytes};
    for (size_t side = 0; side < 2; side++) {
        for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
            if (strlen(same[i][0]) == bytes[side] &&
                strncasecmp(name[side], same[i][0], bytes[side]) == 0) {
                name[side] = same[i][1];
                bytes[side] = strlen(same[i][1]);
                break;
            }
        }
    }
    return bytes[0] == bytes[1] && strncasecmp(name[0], name[1], bytes[0]) == 0;
}

static bool is_id(const struct column *c)
{
    return c->name_bytes == 2 && strncasecmp(c->name, "id", 2) == 0;
}

static bool has_column(const char *columns, const struct column *wanted)
{
    struct column c;
    while (next_column(&columns, &c)) {
        if (c.name_bytes == wanted->name_bytes &&
            strncasecmp(c.name, wanted->name, c.name_bytes) == 0) {
            return types_equal(&c, wanted);
        }
    }
    return false;
}

static bool columns_contain(const char *all, const char *some)
{
    struct column c;
    while (next_column(&some, &c)) {
        if (!is_id(&c) && !has_column(all, &c)) {
            return false;
        }
    }
    return true;
}

bool mt_columns_equal(const char *a, const char *b)
{
    return columns_contain(a, b) && columns_contain(b, a);
}

bool mt_clauses_equal(const struct mt_command *a, const struct mt_command *b)
{
    if (a->clause_count != b->clause_count) {
        return false;
    }
    for (uint32_t i = 0; i < a->clause_count; i++) {
        if (strcmp(a->clause[i], b->clause[i]) != 0) {
            return false;
        }
    }
    return true;
}

bool mt_list_has(const char *list, const char *item)
{
    size_t bytes = strlen(item);
    while (*list != '\0') {
        size_t length = strcspn(list, ",");
        if (length == bytes && strncasecmp(list, item, bytes) == 0) {
            return true;
        }
        list += length;
        list += *list == ',';
    }
    return false;
}
