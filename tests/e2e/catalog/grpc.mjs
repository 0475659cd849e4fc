// SPDX-License-Identifier: Apache-2.0
// grpc-js with our proto files against drover serve: node grpc.mjs HOST:PORT TOKEN PROTO-FOLDER
import assert from 'node:assert/strict';
import grpc from '@grpc/grpc-js';
import loader from '@grpc/proto-loader';

const [address, token, folder] = process.argv.slice(2);
const files = ['collections_service', 'points_service', 'qdrant', 'drover_sharding'].map((f) => `${f}.proto`);
const definition = loader.loadSync(files, { includeDirs: [folder], keepCase: true, longs: Number, oneofs: true });
const { qdrant, drover } = grpc.loadPackageDefinition(definition);
const plain = grpc.credentials.createInsecure();
const options = { 'grpc.default_compression_algorithm': grpc.compressionAlgorithms.gzip };
const meta = new grpc.Metadata();
meta.set('api-key', token);
const bind = (service) => (method, request, metadata = meta) =>
    new Promise((resolve, reject) => service[method](request, metadata, (e, r) => (e ? reject(e) : resolve(r))));
const collections = bind(new qdrant.Collections(address, plain, options));
const points = bind(new qdrant.Points(address, plain, options));
const sharding = bind(new drover.Sharding(address, plain, options));
const health = bind(new qdrant.Qdrant(address, plain, options));
const code = (call) => call.then(() => 0, (e) => e.code);
const name = 'e2e grpc';
const c = { collection_name: name };

assert.equal((await health('HealthCheck', {}, new grpc.Metadata())).title, 'drover');
assert.equal(await code(collections('List', {}, new grpc.Metadata())), grpc.status.UNAUTHENTICATED);
await collections('Delete', c);
const vectors_config = { params: { size: 2, distance: 'Dot' } };
assert.equal((await collections('Create', { ...c, shard_number: 3, vectors_config })).result, true);
assert.equal(await code(collections('Create', { ...c })), grpc.status.ALREADY_EXISTS);
assert.equal(await code(collections('Get', { collection_name: 'no such' })), grpc.status.NOT_FOUND);
assert.ok((await collections('List', {})).collections.some((x) => x.name === name));
// Large enough that the client sends it compressed.
const many = Array.from({ length: 2000 }, (_, i) => ({
    id: { num: i }, payload: { n: { integer_value: i }, t: { string_value: 'text '.repeat(4) } },
    vectors: { vector: { dense: { data: [i, 1] } } },
}));
const written = await points('Upsert', { ...c, wait: true, points: many });
assert.ok([2, 'Completed'].includes(written.result.status));
assert.equal((await points('Count', { ...c, exact: true })).result.count, many.length);
const got = await points('Get', { ...c, ids: [{ num: 42 }], with_payload: { enable: true }, with_vectors: { enable: true } });
assert.equal(got.result[0].payload.n.integer_value, 42);
assert.deepEqual(got.result[0].vectors.vector.dense.data, [42, 1]);
const promoted = await sharding('PromoteToCustomSharding', { ...c, default_shard_key: { keyword: 'default' } });
assert.equal(promoted.result, true);
assert.equal(promoted.promoted, true);
assert.equal((await sharding('PromoteToCustomSharding', c)).promoted, false);
assert.equal((await collections('ListShardKeys', c)).shard_keys[0].key.keyword, 'default');
assert.equal((await points('Count', { ...c, exact: true })).result.count, many.length);
const removed = await points('Delete', { ...c, wait: true, points: { points: { ids: [{ num: 42 }] } } });
assert.ok([2, 'Completed'].includes(removed.result.status));
assert.equal((await points('Count', { ...c, exact: true })).result.count, many.length - 1);
assert.equal((await collections('Delete', c)).result, true);
console.log('1 passed, 0 failed');
process.exit(0);
