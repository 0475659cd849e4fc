// SPDX-License-Identifier: Apache-2.0
// A promotion over gRPC, with its refusals: node cluster_grpc.mjs HOST:PORT TOKEN-FILE FILE-OF-A-WRONG-TOKEN NAME PROTOS
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import grpc from '@grpc/grpc-js';
import loader from '@grpc/proto-loader';

const [address, tokenFile, wrongFile, name, folder] = process.argv.slice(2);
const files = ['collections_service', 'points_service', 'drover_sharding'].map((f) => `${f}.proto`);
const definition = loader.loadSync(files, { includeDirs: [folder], keepCase: true, longs: Number, oneofs: true });
const { qdrant, drover } = grpc.loadPackageDefinition(definition);
const plain = grpc.credentials.createInsecure();
const sharding = new drover.Sharding(address, plain);
const points = new qdrant.Points(address, plain);
const withToken = (file) => {
    const meta = new grpc.Metadata();
    if (file !== undefined) meta.set('api-key', readFileSync(file, 'utf8').trim());
    return meta;
};
const ask = (service, method, request, file = tokenFile) =>
    new Promise((resolve, reject) =>
        service[method](request, file === null ? new grpc.Metadata() : withToken(file), { deadline: Date.now() + 20000 },
            (e, r) => (e ? reject(e) : resolve(r))));
const promote = (request, file) => ask(sharding, 'PromoteToCustomSharding', request, file);
const failure = (call) => call.then(() => assert.fail('it is not refused'), (e) => e);
const c = { collection_name: name };
const key = (keyword) => ({ ...c, default_shard_key: { keyword } });

assert.equal((await failure(promote(c, null))).code, grpc.status.UNAUTHENTICATED);
assert.equal((await failure(promote(c, wrongFile))).code, grpc.status.UNAUTHENTICATED);
assert.equal((await failure(promote({ collection_name: 'none' }))).code, grpc.status.NOT_FOUND);
assert.equal((await failure(promote(key('')))).code, grpc.status.INVALID_ARGUMENT);
const done = await promote(key('eu'));
assert.equal(done.result, true);
assert.equal(done.promoted, true);
assert.equal((await promote(key('eu'))).promoted, false);
const refused = await failure(promote(key('us')));
assert.equal(refused.code, grpc.status.INVALID_ARGUMENT);
assert.match(refused.details, /eu/);
assert.equal((await ask(points, 'Count', { ...c, exact: true })).result.count, 100);
process.exit(0);
