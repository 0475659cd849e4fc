/* SPDX-License-Identifier: Apache-2.0 */
/* store/sqldb over TLS: what each mode accepts, and that an encrypted connection behaves like a
 * plain one. The certificates are made here. */
#include "sql/sql_help.h"

static struct sql_server server[2]; /* by enum dr_dialect */
static char folder[] = "/tmp/drover-tls-XXXXXX";
static struct dr_err err;

static void shell(const char *command)
{
    if (system(command) != 0) { /* NOLINT(cert-env33-c) */
        fail_msg("failed: %s", command);
    }
}

/* A CA that signs the server's certificate for 127.0.0.1, and another that signed nothing. */
static void make_certificates(void)
{
    char *command = dr_asprintf(
        "cd %s && exec 2>log && chmod 755 . && "
        "for ca in ca other; do openssl req -x509 -newkey rsa:2048 -nodes -keyout $ca.key "
        "-out $ca.pem -days 2 -subj /CN=$ca || exit 1; done && "
        "openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr "
        "-subj /CN=127.0.0.1 && printf 'subjectAltName=IP:127.0.0.1\\n' >ext && "
        "openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 "
        "-extfile ext -out server.pem && chmod 644 *.pem *.key",
        folder);
    shell(command);
    dr_free(command);
}

/* PostgreSQL wants to own its key, and takes both without a restart. */
static void encrypt_postgres(struct sql_server *s)
{
    struct dr_sqldb *db = sql_open(s->admin_url);
    char *command = dr_asprintf("cp %s/server.pem %s/server.key %s/data && cd %s/data && "
                                "chmod 600 server.key && "
                                "chown --reference=PG_VERSION server.pem server.key",
                                folder, folder, s->folder, s->folder);
    shell(command);
    dr_free(command);
    sql_do(db, "ALTER SYSTEM SET ssl_cert_file = 'server.pem'");
    sql_do(db, "ALTER SYSTEM SET ssl = on");
    sql_do(db, "SELECT pg_reload_conf()");
    dr_mono_ms until = dr_mono_now() + 10000;
    for (int64_t is_on = 0; is_on != 1;) {
        struct dr_sqldb *probe = sql_open(s->admin_url);
        is_on = sql_number(probe, "SELECT current_setting('ssl')::bool");
        dr_sqldb_close(probe);
        assert_true(dr_mono_now() < until);
    }
    dr_sqldb_close(db);
}

static int start_servers(void **state)
{
    char options[SQL_COMMAND_BYTES / 4];
    (void)state;
    assert_non_null(mkdtemp(folder));
    make_certificates();
    (void)snprintf(options, sizeof options, "--ssl-cert=%s/server.pem --ssl-key=%s/server.key",
                   folder, folder);
    sql_start_with(&server[DR_SQL_MARIADB], "mariadb", options);
    sql_start(&server[DR_SQL_POSTGRES], "postgres");
    encrypt_postgres(&server[DR_SQL_POSTGRES]);
    return 0;
}

static int stop_servers(void **state)
{
    (void)state;
    char *command = dr_asprintf("rm -r %s", folder);
    shell(command);
    dr_free(command);
    for (int d = 0; d < 2; d++) {
        sql_stop(&server[d]);
    }
    return 0;
}

static bool is_encrypted(int d, struct dr_sqldb *db)
{
    return sql_number(db,
                      d == DR_SQL_MARIADB
                          ? "SELECT VARIABLE_VALUE <> '' FROM information_schema.SESSION_STATUS "
                            "WHERE VARIABLE_NAME = 'Ssl_cipher'"
                          : "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") == 1;
}

static void each_mode_accepts_what_it_should(void **state)
{
    static const struct {
        const char *mode;
        const char *ca; /* "" is none */
        enum dr_code code;
        bool is_encrypted;
    } cases[] = {
        {"disabled", "", DR_OK, false},
        {"preferred", "", DR_OK, true},
        {"required", "", DR_OK, true},
        {"verify_ca", "ca", DR_OK, true},
        {"verify_identity", "ca", DR_OK, true},
        {"verify_ca", "other", DR_DENIED, false},
        {"verify-full", "other", DR_DENIED, false},
    };
    (void)state;
    for (int d = 0; d < 2; d++) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            struct dr_sqldb *db = NULL;
            char *url = cases[i].ca[0] == '\0'
                            ? dr_asprintf("%s?ssl-mode=%s", server[d].url, cases[i].mode)
                            : dr_asprintf("%s?sslmode=%s&ssl-ca=%s/%s.pem", server[d].url,
                                          cases[i].mode, folder, cases[i].ca);
            enum dr_code rc = dr_sqldb_open(url, &db, &err);
            if (rc != cases[i].code) {
                fail_msg("%s: %s: %s (%s)", server[d].kind, url, dr_code_name(rc), err.msg);
            }
            if (rc == DR_OK) {
                assert_int_equal(is_encrypted(d, db), cases[i].is_encrypted);
            }
            dr_sqldb_close(db);
            dr_free(url);
        }
    }
}

static void another_name_than_the_certificates_is_refused(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        struct dr_sqldb *db = NULL;
        char *url = dr_asprintf("%s://drover:dr%%40ver%%3A1%%2F2%%25@localhost:%d/drover"
                                "?sslmode=verify-full&ssl-ca=%s/ca.pem",
                                d == DR_SQL_MARIADB ? "mysql" : "postgres", server[d].port, folder);
        enum dr_code rc = dr_sqldb_open(url, &db, &err);
        if (rc != DR_DENIED) {
            fail_msg("%s: %s: %s", server[d].kind, dr_code_name(rc), err.msg);
        }
        assert_null(db);
        dr_free(url);
    }
}

/* TLS sends bytes of its own between statements: they are no farewell, and a kill still is one. */
static void an_idle_encrypted_connection_is_alive_until_killed(void **state)
{
    (void)state;
    for (int d = 0; d < 2; d++) {
        char *url = dr_asprintf("%s?ssl-mode=required", server[d].url);
        struct dr_sqldb *db = sql_open(url);
        struct dr_sqldb *admin = sql_open(server[d].admin_url);
        const char *who =
            d == DR_SQL_MARIADB ? "SELECT CONNECTION_ID()" : "SELECT pg_backend_pid()";
        int64_t id = sql_number(db, who);
        assert_true(dr_sqldb_is_alive(db));
        assert_int_equal(sql_number(db, who), id); /* the same connection */
        char *sql = d == DR_SQL_MARIADB
                        ? dr_asprintf("KILL %" PRId64, id)
                        : dr_asprintf("SELECT pg_terminate_backend(%" PRId64 ")", id);
        sql_do(admin, sql);
        dr_mono_ms until = dr_mono_now() + 10000;
        while (dr_sqldb_is_alive(db)) {
            assert_true(dr_mono_now() < until);
            (void)dr_wait_ms(10, NULL, NULL);
        }
        assert_int_not_equal(sql_number(db, who), id);
        assert_true(is_encrypted(d, db));
        dr_free(sql);
        dr_free(url);
        dr_sqldb_close(db);
        dr_sqldb_close(admin);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_mode_accepts_what_it_should),
        cmocka_unit_test(another_name_than_the_certificates_is_refused),
        cmocka_unit_test(an_idle_encrypted_connection_is_alive_until_killed),
    };
    return cmocka_run_group_tests(tests, start_servers, stop_servers);
}
