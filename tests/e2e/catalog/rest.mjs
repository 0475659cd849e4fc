// SPDX-License-Identifier: Apache-2.0
// The REST client of others against drover serve: node rest.mjs URL TOKEN
import assert from 'node:assert/strict';
import { QdrantClient } from '@qdrant/js-client-rest';

const [url, apiKey] = process.argv.slice(2);
const client = new QdrantClient({ url, apiKey });
const name = 'e2e rest';
let passed = 0;
async function promise(what, run) {
    await run();
    passed++;
    console.log(`ok   ${what}`);
}
const status = async (run) => {
    try {
        await run();
    } catch (e) {
        assert.ok(e.data?.status?.error ?? e.message, 'an error has a text');
        return e.status;
    }
    return 200;
};
const points = Array.from({ length: 300 }, (_, i) => ({ id: i, vector: [i, 0.5], payload: { n: i, t: `p${i}` } }));

await promise('a collection is created, listed and shown', async () => {
    await client.deleteCollection(name);
    assert.equal(await client.createCollection(name, { vectors: { size: 2, distance: 'Dot' }, shard_number: 3 }), true);
    assert.ok((await client.getCollections()).collections.some((c) => c.name === name));
    assert.equal((await client.collectionExists(name)).exists, true);
    const info = await client.getCollection(name);
    assert.equal(info.config.params.shard_number, 3);
    assert.equal(await status(() => client.createCollection(name, {})), 409);
    assert.equal(await status(() => client.getCollection('no such')), 404);
});
await promise('points come back as they were written', async () => {
    assert.equal((await client.upsert(name, { points })).status, 'completed');
    assert.equal((await client.count(name)).count, points.length);
    const got = await client.retrieve(name, { ids: [0, 17, 299], with_vector: true });
    assert.deepEqual(got.map((p) => p.payload.n).sort((a, b) => a - b), [0, 17, 299]);
    const seen = new Set();
    for (let offset; ; ) {
        const page = await client.scroll(name, { limit: 70, offset });
        page.points.forEach((p) => seen.add(p.id));
        offset = page.next_page_offset;
        if (offset === null) break;
    }
    assert.equal(seen.size, points.length);
});
const where = async (query) => {
    const answer = await fetch(`${url}/collections/${encodeURIComponent(name)}/route`, {
        method: 'POST', headers: { 'api-key': apiKey, 'content-type': 'application/json' },
        body: JSON.stringify({ ids: points.map((p) => p.id), ...query }),
    });
    return (await answer.json()).result.map((r) => [r.id, r.shard_id]);
};
await promise('the promotion moves no id and needs no new client', async () => {
    const before = await where({});
    const done = await client.updateCollectionCluster(name, { promote_to_custom_sharding: { default_shard_key: 'default' } });
    assert.equal(done, true);
    assert.deepEqual(await where({}), before);
    assert.deepEqual(await where({ shard_key: 'default' }), before);
    assert.equal((await client.getCollection(name)).config.params.sharding_method, 'custom');
    assert.equal((await client.count(name)).count, points.length);
    const cluster = await client.collectionClusterInfo(name);
    assert.ok(cluster.local_shards.every((s) => s.shard_key === 'default'));
    assert.equal(await status(() => client.updateCollectionCluster(name, { promote_to_custom_sharding: { default_shard_key: 'other' } })), 400);
});
await promise('with a second key, writes have to name one', async () => {
    assert.equal((await client.upsert(name, { points: [points[0]] })).status, 'completed');
    assert.equal(await client.createShardKey(name, { shard_key: 7, shards_number: 1 }), true);
    assert.equal(await status(() => client.upsert(name, { points: [points[0]] })), 400);
    assert.equal((await client.upsert(name, { points: [{ id: 9000, vector: [1, 1] }], shard_key: 7 })).status, 'completed');
    assert.equal((await client.count(name, { shard_key: 7 })).count, 1);
    assert.equal((await client.delete(name, { points: [9000], shard_key: 7 })).status, 'completed');
    assert.equal(await client.deleteShardKey(name, { shard_key: 7 }), true);
    assert.equal(await status(() => client.deleteShardKey(name, { shard_key: 'default' })), 400);
});
await promise('it is deleted, once', async () => {
    assert.equal(await client.deleteCollection(name), true);
    assert.equal(await client.deleteCollection(name), false);
});
console.log(`${passed} passed, 0 failed`);
