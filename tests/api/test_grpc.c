/* SPDX-License-Identifier: Apache-2.0 */
/* The promises of gRPC over a real connection: messages become the same calls as in REST, answers
 * their messages, failures their statuses; tokens, gzip, limits and an orderly end. */
#include "api/api_help.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>

#include <api_proto/collections.pb-c.h>
#include <api_proto/drover_sharding.pb-c.h>
#include <api_proto/points.pb-c.h>
#include <api_proto/qdrant.pb-c.h>

#include "api/fake_cluster.h"
#include "api/grpc_private.h"

static struct bench *start(bool with_tokens)
{
    struct bench *b = make_bench(NULL);
    fake_reset();
    b->serve.cluster = &fake;
    b->serve.grpc_listen = "127.0.0.1:0";
    if (with_tokens) {
        use_tokens(b);
    }
    start_api(b);
    assert_true(dr_api_grpc_port(b->api) != 0);
    return b;
}

static void end(struct bench *b)
{
    drop_bench(b);
    fake_reset();
}

/* --- a client ------------------------------------------------------------------------------------
 */

struct result {
    int status;
    char text[512];
    uint8_t *data; /* free() */
    size_t bytes;
};

static grpc_channel *open_channel(const struct bench *b, bool is_gzip)
{
    char target[64];
    grpc_arg arg = {.type = GRPC_ARG_INTEGER, .key = "grpc.default_compression_algorithm"};
    arg.value.integer = GRPC_COMPRESS_GZIP;
    const grpc_channel_args args = {.num_args = is_gzip ? 1 : 0, .args = &arg};
    (void)snprintf(target, sizeof target, "127.0.0.1:%u", (unsigned)dr_api_grpc_port(b->api));
    grpc_channel_credentials *plain = grpc_insecure_credentials_create();
    grpc_channel *channel = grpc_channel_create(target, plain, &args);
    grpc_channel_credentials_release(plain);
    return channel;
}

static void take_answer(grpc_byte_buffer *answer, struct result *r)
{
    grpc_byte_buffer_reader reader;
    if (answer == NULL) {
        return;
    }
    assert_int_equal(grpc_byte_buffer_reader_init(&reader, answer), 1);
    grpc_slice all = grpc_byte_buffer_reader_readall(&reader);
    r->bytes = GRPC_SLICE_LENGTH(all);
    r->data = malloc(r->bytes + 1);
    assert_non_null(r->data);
    memcpy(r->data, GRPC_SLICE_START_PTR(all), r->bytes);
    grpc_slice_unref(all);
    grpc_byte_buffer_reader_destroy(&reader);
    grpc_byte_buffer_destroy(answer);
}

/* One call with raw bytes; data NULL sends no message at all. */
static struct result send_bytes(const struct bench *b, const char *path, const char *token,
                                const uint8_t *data, size_t bytes, bool is_gzip)
{
    struct result r = {0};
    grpc_op op[6];
    size_t count = 0;
    grpc_status_code status = GRPC_STATUS_UNKNOWN;
    grpc_byte_buffer *answer = NULL;
    grpc_metadata_array head;
    grpc_metadata_array tail;
    grpc_metadata key = {.key = grpc_slice_from_static_string("api-key")};
    grpc_completion_queue *queue = grpc_completion_queue_create_for_next(NULL);
    grpc_channel *channel = open_channel(b, is_gzip);
    grpc_slice method = grpc_slice_from_copied_string(path);
    gpr_timespec until =
        gpr_time_add(gpr_now(GPR_CLOCK_REALTIME), gpr_time_from_seconds(20, GPR_TIMESPAN));
    grpc_call *call = grpc_channel_create_call(channel, NULL, GRPC_PROPAGATE_DEFAULTS, queue,
                                               method, NULL, until, NULL);
    grpc_slice body = grpc_slice_from_copied_buffer((const char *)data, data != NULL ? bytes : 0);
    grpc_byte_buffer *message = grpc_raw_byte_buffer_create(&body, 1);
    grpc_slice details = grpc_empty_slice();
    grpc_slice_unref(body);
    grpc_metadata_array_init(&head);
    grpc_metadata_array_init(&tail);
    memset(op, 0, sizeof op);
    key.value = grpc_slice_from_copied_string(token != NULL ? token : "");
    op[count].op = GRPC_OP_SEND_INITIAL_METADATA;
    op[count].data.send_initial_metadata.count = token != NULL ? 1 : 0;
    op[count++].data.send_initial_metadata.metadata = &key;
    if (data != NULL) {
        op[count].op = GRPC_OP_SEND_MESSAGE;
        op[count++].data.send_message.send_message = message;
    }
    op[count++].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    op[count].op = GRPC_OP_RECV_INITIAL_METADATA;
    op[count++].data.recv_initial_metadata.recv_initial_metadata = &head;
    op[count].op = GRPC_OP_RECV_MESSAGE;
    op[count++].data.recv_message.recv_message = &answer;
    op[count].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    op[count].data.recv_status_on_client.trailing_metadata = &tail;
    op[count].data.recv_status_on_client.status = &status;
    op[count++].data.recv_status_on_client.status_details = &details;
    assert_int_equal(grpc_call_start_batch(call, op, count, &r, NULL), GRPC_CALL_OK);
    grpc_event e = grpc_completion_queue_next(queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL);
    assert_true(e.tag == &r);
    take_answer(answer, &r);
    r.status = (int)status;
    size_t length = GRPC_SLICE_LENGTH(details);
    length = length < sizeof r.text ? length : sizeof r.text - 1;
    memcpy(r.text, GRPC_SLICE_START_PTR(details), length);
    grpc_slice_unref(details);
    grpc_slice_unref(key.value);
    grpc_slice_unref(method);
    grpc_metadata_array_destroy(&head);
    grpc_metadata_array_destroy(&tail);
    grpc_byte_buffer_destroy(message);
    grpc_call_unref(call);
    grpc_channel_destroy(channel);
    grpc_completion_queue_shutdown(queue);
    while (grpc_completion_queue_next(queue, gpr_inf_future(GPR_CLOCK_REALTIME), NULL).type !=
           GRPC_QUEUE_SHUTDOWN) {
    }
    grpc_completion_queue_destroy(queue);
    return r;
}

static struct result send_message(const struct bench *b, const char *path, const char *token,
                                  const ProtobufCMessage *m, bool is_gzip)
{
    size_t bytes = protobuf_c_message_get_packed_size(m);
    uint8_t *data = malloc(bytes + 1);
    assert_non_null(data);
    assert_int_equal(protobuf_c_message_pack(m, data), bytes);
    struct result r = send_bytes(b, path, token, data, bytes, is_gzip);
    free(data);
    return r;
}

/* A call that must succeed; the answer is for protobuf_c_message_free_unpacked. */
static ProtobufCMessage *good(const struct bench *b, const char *path, const ProtobufCMessage *m,
                              const ProtobufCMessageDescriptor *answer)
{
    struct result r = send_message(b, path, NULL, m, false);
    if (r.status != 0) {
        print_error("%s: %d %s\n", path, r.status, r.text);
    }
    assert_int_equal(r.status, 0);
    ProtobufCMessage *out = protobuf_c_message_unpack(answer, NULL, r.bytes, r.data);
    assert_non_null(out);
    free(r.data);
    return out;
}

static void bad(const struct bench *b, const char *path, const char *token,
                const ProtobufCMessage *m, int status, const char *text)
{
    struct result r = send_message(b, path, token, m, false);
    if (r.status != status || strncmp(r.text, text, strlen(text)) != 0) {
        print_error("%s: wanted %d %s, got %d %s\n", path, status, text, r.status, r.text);
        fail();
    }
    free(r.data);
}

static char c_name[] = "c";

static void release(void *m)
{
    protobuf_c_message_free_unpacked(m, NULL);
}

/* --- collections ---------------------------------------------------------------------------------
 */

static void a_collection_is_created_with_what_was_said(void **state)
{
    struct bench *b = start(false);
    Qdrant__CreateCollection m = QDRANT__CREATE_COLLECTION__INIT;
    Qdrant__VectorsConfig vectors = QDRANT__VECTORS_CONFIG__INIT;
    Qdrant__VectorParams params = QDRANT__VECTOR_PARAMS__INIT;
    (void)state;
    params.has_size = 1;
    params.size = 4;
    params.has_distance = 1;
    params.distance = QDRANT__DISTANCE__Cosine;
    vectors.config_case = QDRANT__VECTORS_CONFIG__CONFIG_PARAMS;
    vectors.params = &params;
    m.collection_name = c_name;
    m.has_shard_number = 1;
    m.shard_number = 3;
    m.has_sharding_method = 1;
    m.sharding_method = QDRANT__SHARDING_METHOD__Custom;
    m.has_timeout = 1;
    m.timeout = 5;
    m.vectors_config = &vectors;
    Qdrant__CollectionOperationResponse *r =
        (void *)good(b, "/qdrant.Collections/Create", &m.base,
                     &qdrant__collection_operation_response__descriptor);
    assert_true(r->has_result && r->result);
    assert_true(r->has_time && r->time >= 0);
    release(r);
    assert_fake("dr_cluster_create_collection", "c",
                "{\"shard_number\":3,\"sharding_method\":\"custom\",\"vectors\":{\"distance\":"
                "\"Cosine\",\"size\":4}}");
    assert_int_equal(fake.timeout_ms, 5000);
    m.shard_number = 0;
    bad(b, "/qdrant.Collections/Create", NULL, &m.base, 3,
        "Validation error in body: [shard_number: value 0");
    m.shard_number = 1;
    m.collection_name = NULL;
    bad(b, "/qdrant.Collections/Create", NULL, &m.base, 3,
        "Validation error in body: [collection_name");
    end(b);
}

static void information_comes_back_in_messages(void **state)
{
    struct bench *b = start(false);
    Qdrant__GetCollectionInfoRequest m = QDRANT__GET_COLLECTION_INFO_REQUEST__INIT;
    (void)state;
    m.collection_name = c_name;
    fake_answers("{\"status\":\"green\",\"optimizer_status\":\"ok\",\"segments_count\":1,"
                 "\"points_count\":9,\"config\":{\"params\":{\"vectors\":{\"size\":4,\"distance\":"
                 "\"Dot\"},\"shard_number\":3,\"sharding_method\":\"custom\","
                 "\"replication_factor\":2}},\"payload_schema\":{}}");
    Qdrant__GetCollectionInfoResponse *r = (void *)good(
        b, "/qdrant.Collections/Get", &m.base, &qdrant__get_collection_info_response__descriptor);
    assert_int_equal(r->result->status, QDRANT__COLLECTION_STATUS__Green);
    assert_true(r->result->optimizer_status->ok);
    assert_int_equal(r->result->points_count, 9);
    const Qdrant__CollectionParams *p = r->result->config->params;
    assert_int_equal(p->shard_number, 3);
    assert_int_equal(p->sharding_method, QDRANT__SHARDING_METHOD__Custom);
    assert_int_equal(p->replication_factor, 2);
    assert_int_equal(p->vectors_config->params->size, 4);
    assert_int_equal(p->vectors_config->params->distance, QDRANT__DISTANCE__Dot);
    release(r);

    Qdrant__CollectionClusterInfoRequest info = QDRANT__COLLECTION_CLUSTER_INFO_REQUEST__INIT;
    info.collection_name = c_name;
    fake_answers(
        "{\"peer_id\":9007199254740991,\"shard_count\":2,\"local_shards\":[{\"shard_id\":0,"
        "\"shard_key\":\"k\",\"points_count\":4,\"state\":\"Active\"}],\"remote_shards\":"
        "[{\"shard_id\":1,\"shard_key\":7,\"peer_id\":2,\"state\":\"ReshardingScaleDown\"}"
        "],\"shard_transfers\":[{\"shard_id\":1,\"from\":1,\"to\":2,\"sync\":true}]}");
    Qdrant__CollectionClusterInfoResponse *s =
        (void *)good(b, "/qdrant.Collections/CollectionClusterInfo", &info.base,
                     &qdrant__collection_cluster_info_response__descriptor);
    assert_int_equal(s->peer_id, 9007199254740991);
    assert_int_equal(s->n_local_shards, 1);
    assert_string_equal(s->local_shards[0]->shard_key->keyword, "k");
    assert_int_equal(s->remote_shards[0]->shard_key->number, 7);
    assert_int_equal(s->remote_shards[0]->state, QDRANT__REPLICA_STATE__ReshardingScaleDown);
    assert_true(s->shard_transfers[0]->sync);
    release(s);

    Qdrant__ListShardKeysRequest keys = QDRANT__LIST_SHARD_KEYS_REQUEST__INIT;
    keys.collection_name = c_name;
    fake_answers("{\"shard_keys\":[{\"key\":\"12\"},{\"key\":12}]}");
    Qdrant__ListShardKeysResponse *k =
        (void *)good(b, "/qdrant.Collections/ListShardKeys", &keys.base,
                     &qdrant__list_shard_keys_response__descriptor);
    assert_int_equal(k->n_shard_keys, 2);
    assert_string_equal(k->shard_keys[0]->key->keyword, "12");
    assert_int_equal(k->shard_keys[1]->key->number, 12);
    release(k);
    end(b);
}

static void shard_keys_and_cluster_operations_are_asked_for(void **state)
{
    struct bench *b = start(false);
    Qdrant__ShardKey key = QDRANT__SHARD_KEY__INIT;
    Qdrant__CreateShardKey create = QDRANT__CREATE_SHARD_KEY__INIT;
    Qdrant__CreateShardKeyRequest m = QDRANT__CREATE_SHARD_KEY_REQUEST__INIT;
    uint64_t placement[] = {1, 2};
    (void)state;
    m.collection_name = c_name;
    bad(b, "/qdrant.Collections/CreateShardKey", NULL, &m.base, 3,
        "Validation error in body: [request: empty request]");
    key.key_case = QDRANT__SHARD_KEY__KEY_NUMBER;
    key.number = 7;
    create.shard_key = &key;
    create.n_placement = 2;
    create.placement = placement;
    create.has_initial_state = 1;
    create.initial_state = QDRANT__REPLICA_STATE__Partial;
    m.request = &create;
    release(good(b, "/qdrant.Collections/CreateShardKey", &m.base,
                 &qdrant__create_shard_key_response__descriptor));
    assert_fake("dr_cluster_create_key", "c",
                "{\"initial_state\":\"Partial\",\"placement\":[1,2],\"shard_key\":7}");

    key.number = UINT64_MAX; /* not the keyword of these digits, either */
    bad(b, "/qdrant.Collections/CreateShardKey", NULL, &m.base, 3,
        "Format error in body: shard_key");

    Qdrant__MoveShard move = QDRANT__MOVE_SHARD__INIT;
    Qdrant__UpdateCollectionClusterSetupRequest u =
        QDRANT__UPDATE_COLLECTION_CLUSTER_SETUP_REQUEST__INIT;
    move.has_shard_id = move.has_from_peer_id = move.has_to_peer_id = move.has_method = 1;
    move.from_peer_id = 1;
    move.to_peer_id = 2;
    move.method = QDRANT__SHARD_TRANSFER_METHOD__StreamRecords;
    u.collection_name = c_name;
    u.operation_case = QDRANT__UPDATE_COLLECTION_CLUSTER_SETUP_REQUEST__OPERATION_MOVE_SHARD;
    u.move_shard = &move;
    release(good(b, "/qdrant.Collections/UpdateCollectionClusterSetup", &u.base,
                 &qdrant__update_collection_cluster_setup_response__descriptor));
    assert_fake("dr_cluster_cluster_op", "c",
                "{\"move_shard\":{\"from_peer_id\":1,\"method\":\"stream_records\",\"shard_id\":0,"
                "\"to_peer_id\":2}}");
    end(b);
}

static void the_promotion_has_a_call_of_its_own(void **state)
{
    struct bench *b = start(true);
    Drover__PromoteToCustomShardingRequest m = DROVER__PROMOTE_TO_CUSTOM_SHARDING_REQUEST__INIT;
    (void)state;
    m.collection_name = c_name;
    fake_answers("{\"promoted\":true,\"default_shard_key\":\"default\",\"shards\":3,"
                 "\"shard_number_means\":\"shards per key\"}");
    bad(b, "/drover.Sharding/PromoteToCustomSharding", OPERATOR, &m.base, 7, "Forbidden: ");
    bad(b, "/drover.Sharding/PromoteToCustomSharding", NULL, &m.base, 16, "a valid token");
    assert_int_equal(fake.calls, 0);
    struct result r =
        send_message(b, "/drover.Sharding/PromoteToCustomSharding", ADMIN, &m.base, false);
    assert_int_equal(r.status, 0);
    assert_fake("dr_cluster_promote", "c", "{}");
    assert_string_equal(fake.who, "grpc:admin-4");
    Drover__PromoteToCustomShardingResponse *p = (void *)protobuf_c_message_unpack(
        &drover__promote_to_custom_sharding_response__descriptor, NULL, r.bytes, r.data);
    assert_true(p->result && p->promoted);
    assert_string_equal(p->default_shard_key->keyword, "default");
    assert_int_equal(p->shards, 3);
    release(p);
    free(r.data);
    end(b);
}

/* --- points --------------------------------------------------------------------------------------
 */

static void points_and_payloads_survive_the_way_in(void **state)
{
    static char keyword[] = "k";
    static char field[] = "f";
    static char text[] = "t\xC3\xA9";
    struct bench *b = start(false);
    float data[] = {0.5f, -1};
    Qdrant__DenseVector dense = QDRANT__DENSE_VECTOR__INIT;
    Qdrant__Vector vector = QDRANT__VECTOR__INIT;
    Qdrant__Vectors vectors = QDRANT__VECTORS__INIT;
    Qdrant__Value leaf = QDRANT__VALUE__INIT;
    Qdrant__Value list_value = QDRANT__VALUE__INIT;
    Qdrant__ListValue list = QDRANT__LIST_VALUE__INIT;
    Qdrant__PointStruct__PayloadEntry entry = QDRANT__POINT_STRUCT__PAYLOAD_ENTRY__INIT;
    Qdrant__PointId id = QDRANT__POINT_ID__INIT;
    Qdrant__PointStruct point = QDRANT__POINT_STRUCT__INIT;
    Qdrant__ShardKey key = QDRANT__SHARD_KEY__INIT;
    Qdrant__ShardKeySelector selector = QDRANT__SHARD_KEY_SELECTOR__INIT;
    Qdrant__UpsertPoints m = QDRANT__UPSERT_POINTS__INIT;
    Qdrant__Value *leaves[] = {&leaf};
    Qdrant__PointStruct__PayloadEntry *entries[] = {&entry};
    Qdrant__PointStruct *points[] = {&point};
    Qdrant__ShardKey *keys[] = {&key};
    (void)state;
    dense.n_data = 2;
    dense.data = data;
    vector.vector_case = QDRANT__VECTOR__VECTOR_DENSE;
    vector.dense = &dense;
    vectors.vectors_options_case = QDRANT__VECTORS__VECTORS_OPTIONS_VECTOR;
    vectors.vector = &vector;
    leaf.kind_case = QDRANT__VALUE__KIND_STRING_VALUE;
    leaf.string_value = text;
    list.n_values = 1;
    list.values = leaves;
    list_value.kind_case = QDRANT__VALUE__KIND_LIST_VALUE;
    list_value.list_value = &list;
    entry.key = field;
    entry.value = &list_value;
    id.point_id_options_case = QDRANT__POINT_ID__POINT_ID_OPTIONS_NUM;
    id.num = UINT64_MAX;
    point.id = &id;
    point.n_payload = 1;
    point.payload = entries;
    point.vectors = &vectors;
    key.key_case = QDRANT__SHARD_KEY__KEY_KEYWORD;
    key.keyword = keyword;
    selector.n_shard_keys = 1;
    selector.shard_keys = keys;
    m.collection_name = c_name;
    m.n_points = 1;
    m.points = points;
    m.shard_key_selector = &selector;
    fake_answers("{\"operation_id\":3,\"status\":\"completed\"}");
    Qdrant__PointsOperationResponse *r = (void *)good(
        b, "/qdrant.Points/Upsert", &m.base, &qdrant__points_operation_response__descriptor);
    assert_int_equal(r->result->operation_id, 3);
    assert_int_equal(r->result->status, QDRANT__UPDATE_STATUS__Completed);
    release(r);
    assert_fake("dr_points_upsert", "c",
                "{\"points\":[{\"id\":\"18446744073709551615\",\"payload\":{\"f\":[\"t\xC3\xA9\"]},"
                "\"vector\":[0.5,-1.0]}],\"shard_key\":[\"k\"]}");
    data[0] = (float)(0.0 / 0.0);
    bad(b, "/qdrant.Points/Upsert", NULL, &m.base, 3, "Format error in body: ");
    end(b);
}

static void points_come_back_whole(void **state)
{
    struct bench *b = start(false);
    Qdrant__PointId id = QDRANT__POINT_ID__INIT;
    Qdrant__PointId *ids[] = {&id};
    Qdrant__GetPoints m = QDRANT__GET_POINTS__INIT;
    (void)state;
    id.point_id_options_case = QDRANT__POINT_ID__POINT_ID_OPTIONS_NUM;
    id.num = 5;
    m.collection_name = c_name;
    m.n_ids = 1;
    m.ids = ids;
    fake_answers("[{\"id\":5,\"payload\":{\"n\":{\"a\":[1,2.5,null,true]}},\"vector\":[1,2],"
                 "\"shard_key\":7},{\"id\":\"550e8400-e29b-41d4-a716-446655440000\",\"payload\":"
                 "{},\"vector\":{\"v\":{\"indices\":[1],\"values\":[0.25]}}}]");
    Qdrant__GetResponse *r =
        (void *)good(b, "/qdrant.Points/Get", &m.base, &qdrant__get_response__descriptor);
    assert_fake("dr_points_get", "c", "{\"ids\":[5]}");
    assert_int_equal(r->n_result, 2);
    assert_int_equal(r->result[0]->id->num, 5);
    const Qdrant__Value *n = r->result[0]->payload[0]->value;
    assert_int_equal(n->kind_case, QDRANT__VALUE__KIND_STRUCT_VALUE);
    const Qdrant__ListValue *list = n->struct_value->fields[0]->value->list_value;
    assert_int_equal(list->n_values, 4);
    assert_int_equal(list->values[0]->integer_value, 1);
    assert_true(list->values[1]->double_value == 2.5);
    assert_int_equal(list->values[2]->kind_case, QDRANT__VALUE__KIND_NULL_VALUE);
    assert_true(list->values[3]->bool_value);
    assert_int_equal(r->result[0]->vectors->vector->dense->n_data, 2);
    assert_int_equal(r->result[0]->shard_key->number, 7);
    assert_string_equal(r->result[1]->id->uuid, "550e8400-e29b-41d4-a716-446655440000");
    const Qdrant__NamedVectors__VectorsEntry *named = r->result[1]->vectors->vectors->vectors[0];
    assert_string_equal(named->key, "v");
    assert_int_equal(named->value->sparse->indices[0], 1);
    release(r);

    Qdrant__ScrollPoints scroll = QDRANT__SCROLL_POINTS__INIT;
    scroll.collection_name = c_name;
    scroll.has_limit = 1;
    scroll.limit = 2;
    fake_answers("{\"points\":[{\"id\":1}],\"next_page_offset\":9}");
    Qdrant__ScrollResponse *s = (void *)good(b, "/qdrant.Points/Scroll", &scroll.base,
                                             &qdrant__scroll_response__descriptor);
    assert_int_equal(s->next_page_offset->num, 9);
    assert_int_equal(s->n_result, 1);
    release(s);
    fake_answers("{\"points\":[],\"next_page_offset\":null}");
    s = (void *)good(b, "/qdrant.Points/Scroll", &scroll.base,
                     &qdrant__scroll_response__descriptor);
    assert_null(s->next_page_offset);
    release(s);

    Qdrant__CountPoints count = QDRANT__COUNT_POINTS__INIT;
    count.collection_name = c_name;
    fake_answers("{\"count\":42}");
    Qdrant__CountResponse *k =
        (void *)good(b, "/qdrant.Points/Count", &count.base, &qdrant__count_response__descriptor);
    assert_int_equal(k->result->count, 42);
    release(k);
    end(b);
}

static void filters_are_refused_and_never_ignored(void **state)
{
    uint8_t condition[] = {0x0a, 0x00};
    ProtobufCBinaryData must = {.len = sizeof condition, .data = condition};
    struct bench *b = start(false);
    Qdrant__Filter filter = QDRANT__FILTER__INIT;
    Qdrant__PointsSelector selector = QDRANT__POINTS_SELECTOR__INIT;
    Qdrant__DeletePoints m = QDRANT__DELETE_POINTS__INIT;
    Qdrant__PointId id = QDRANT__POINT_ID__INIT;
    Qdrant__PointId *ids[] = {&id};
    Qdrant__PointsIdsList list = QDRANT__POINTS_IDS_LIST__INIT;
    (void)state;
    m.collection_name = c_name;
    m.points = &selector;
    selector.points_selector_one_of_case = QDRANT__POINTS_SELECTOR__POINTS_SELECTOR_ONE_OF_FILTER;
    selector.filter = &filter;
    filter.n_must = 1;
    filter.must = &must;
    bad(b, "/qdrant.Points/Delete", NULL, &m.base, 3, "Validation error in body: [filter");
    filter.n_must = 0; /* it would select everything */
    bad(b, "/qdrant.Points/Delete", NULL, &m.base, 3, "");
    assert_int_equal(fake.calls, 0);
    id.point_id_options_case = QDRANT__POINT_ID__POINT_ID_OPTIONS_NUM;
    id.num = 3;
    list.n_ids = 1;
    list.ids = ids;
    selector.points_selector_one_of_case = QDRANT__POINTS_SELECTOR__POINTS_SELECTOR_ONE_OF_POINTS;
    selector.points = &list;
    fake_answers("{\"operation_id\":1,\"status\":\"completed\"}");
    release(
        good(b, "/qdrant.Points/Delete", &m.base, &qdrant__points_operation_response__descriptor));
    assert_fake("dr_points_delete", "c", "{\"points\":[3]}");
    end(b);
}

/* --- the door ------------------------------------------------------------------------------------
 */

static void classes_become_their_codes(void **state)
{
    static const struct {
        enum dr_cluster_class class;
        int status;
    } codes[] = {
        {DR_CLASS_BAD_INPUT, 3}, {DR_CLASS_BAD_REQUEST, 3}, {DR_CLASS_EXISTS, 6},
        {DR_CLASS_NOT_FOUND, 5}, {DR_CLASS_FORBIDDEN, 7},   {DR_CLASS_STANDALONE, 12},
        {DR_CLASS_TIMEOUT, 4},   {DR_CLASS_SERVICE, 13},    {DR_CLASS_UNAVAILABLE, 14},
    };
    struct bench *b = start(false);
    Qdrant__ListCollectionsRequest m = QDRANT__LIST_COLLECTIONS_REQUEST__INIT;
    (void)state;
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        fake_fails(codes[i].class, "the reason");
        bad(b, "/qdrant.Collections/List", NULL, &m.base, codes[i].status, "the reason");
    }
    bad(b, "/qdrant.Collections/Nothing", NULL, &m.base, 12, "there is no call");
    end(b);
}

static void tokens_are_asked_for_and_the_health_check_is_open(void **state)
{
    struct bench *b = start(true);
    Qdrant__ListCollectionsRequest m = QDRANT__LIST_COLLECTIONS_REQUEST__INIT;
    Qdrant__HealthCheckRequest health = QDRANT__HEALTH_CHECK_REQUEST__INIT;
    (void)state;
    bad(b, "/qdrant.Collections/List", NULL, &m.base, 16, "");
    bad(b, "/qdrant.Collections/List", "wrong-0123456789abcdef", &m.base, 16, "");
    bad(b, "/qdrant.Collections/Delete", READER, &m.base, 7, "Forbidden: ");
    assert_int_equal(fake.calls, 0);
    fake_answers("{\"collections\":[]}");
    struct result r = send_message(b, "/qdrant.Collections/List", READER, &m.base, false);
    assert_int_equal(r.status, 0);
    free(r.data);
    Qdrant__HealthCheckReply *h = (void *)good(b, "/qdrant.Qdrant/HealthCheck", &health.base,
                                               &qdrant__health_check_reply__descriptor);
    assert_string_equal(h->title, "drover");
    release(h);
    end(b);
}

static void gzip_messages_are_inflated(void **state)
{
    enum { IDS = 20000 };
    struct bench *b = start(false);
    Qdrant__PointId id = QDRANT__POINT_ID__INIT;
    Qdrant__PointId **ids = calloc(IDS, sizeof(*ids));
    Qdrant__GetPoints m = QDRANT__GET_POINTS__INIT;
    (void)state;
    assert_non_null(ids);
    id.point_id_options_case = QDRANT__POINT_ID__POINT_ID_OPTIONS_NUM;
    id.num = 1234567;
    for (size_t i = 0; i < IDS; i++) {
        ids[i] = &id;
    }
    m.collection_name = c_name;
    m.n_ids = IDS;
    m.ids = ids;
    fake_answers("[]");
    struct result r = send_message(b, "/qdrant.Points/Get", NULL, &m.base, true);
    assert_int_equal(r.status, 0);
    free(r.data);
    assert_int_equal(json_array_size(json_object_get(fake.body, "ids")), IDS);
    free(ids);
    end(b);
}

static void rubbish_and_deep_messages_are_refused(void **state)
{
    enum { LEVELS = 20000 };
    static const uint8_t rubbish[] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    struct bench *b = start(false);
    (void)state;
    struct result r =
        send_bytes(b, "/qdrant.Collections/List", NULL, rubbish, sizeof rubbish, false);
    assert_int_equal(r.status, 3);
    r = send_bytes(b, "/qdrant.Collections/List", NULL, NULL, 0, false);
    assert_int_equal(r.status, 3);
    /* A list in a list in a list, 20,000 deep, built from the inside out, in a point's payload. */
    size_t room = (size_t)LEVELS * 12;
    uint8_t *data = malloc(room);
    assert_non_null(data);
    size_t at = room;
    for (int level = 0; level < LEVELS; level++) {
        for (int tag = 0; tag < 2; tag++) { /* Value.list_value = 7, ListValue.values = 1 */
            size_t inside = room - at;
            uint8_t length[5];
            size_t used = 0;
            do {
                length[used++] = (uint8_t)((inside & 0x7f) | (inside > 0x7f ? 0x80 : 0));
                inside >>= 7;
            } while (inside > 0);
            at -= used;
            memcpy(data + at, length, used);
            data[--at] = tag == 0 ? 0x0a : 0x3a;
        }
    }
    assert_false(dr_pb_is_bounded(&qdrant__value__descriptor, data + at, room - at));
    free(data);
    assert_int_equal(fake.calls, 0);
    end(b);
}

static void a_second_server_at_the_same_port_and_open_addresses_are_refused(void **state)
{
    struct dr_err err = {0};
    char taken[32];
    struct bench *b = start(false);
    struct dr_serve other = b->serve;
    struct dr_api *api = NULL;
    (void)state;
    (void)snprintf(taken, sizeof taken, "127.0.0.1:%u", (unsigned)dr_api_grpc_port(b->api));
    other.grpc_listen = taken;
    assert_int_equal(dr_api_start(&other, NULL, &api, &err), DR_IO);
    assert_null(api);
    other.grpc_listen = "0.0.0.0:0";
    assert_int_equal(dr_api_start(&other, NULL, &api, &err), DR_REFUSED);
    assert_non_null(strstr(err.msg, "--grpc-listen"));
    end(b);
}

struct asker {
    const struct bench *b;
    int status;
};

static void *ask_once(void *arg)
{
    struct asker *a = arg;
    Qdrant__ListCollectionsRequest m = QDRANT__LIST_COLLECTIONS_REQUEST__INIT;
    struct result r = send_message(a->b, "/qdrant.Collections/List", NULL, &m.base, false);
    a->status = r.status;
    free(r.data);
    return NULL;
}

static void many_at_once_are_all_answered(void **state)
{
    enum { ASKERS = 24 };
    pthread_t thread[ASKERS];
    struct asker asker[ASKERS];
    struct bench *b = start(false);
    (void)state;
    fake_answers("{\"collections\":[]}");
    for (int i = 0; i < ASKERS; i++) {
        asker[i] = (struct asker){.b = b, .status = -1};
        assert_int_equal(pthread_create(&thread[i], NULL, ask_once, &asker[i]), 0);
    }
    for (int i = 0; i < ASKERS; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        assert_int_equal(asker[i].status, 0);
    }
    assert_int_equal(fake.calls, ASKERS);
    end(b);
}

static int set_up(void **state)
{
    (void)state;
    grpc_init();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    grpc_shutdown_blocking();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_collection_is_created_with_what_was_said),
        cmocka_unit_test(information_comes_back_in_messages),
        cmocka_unit_test(shard_keys_and_cluster_operations_are_asked_for),
        cmocka_unit_test(the_promotion_has_a_call_of_its_own),
        cmocka_unit_test(points_and_payloads_survive_the_way_in),
        cmocka_unit_test(points_come_back_whole),
        cmocka_unit_test(filters_are_refused_and_never_ignored),
        cmocka_unit_test(classes_become_their_codes),
        cmocka_unit_test(tokens_are_asked_for_and_the_health_check_is_open),
        cmocka_unit_test(gzip_messages_are_inflated),
        cmocka_unit_test(rubbish_and_deep_messages_are_refused),
        cmocka_unit_test(a_second_server_at_the_same_port_and_open_addresses_are_refused),
        cmocka_unit_test(many_at_once_are_all_answered),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
