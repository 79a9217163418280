// The life of a batch with OpenAI's own client, as its users write it.
//
//	node batch.mjs BASE_URL KEY
import assert from 'node:assert/strict';
import OpenAI, { toFile } from 'openai';

const [baseURL, apiKey] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey });
const n = 60;

const request = (id) =>
  JSON.stringify({
    custom_id: id,
    method: 'POST',
    url: '/v1/chat/completions',
    body: { model: 'gpt-4', messages: [{ role: 'user', content: 'hello' }] },
  }) + '\n';
const requests = Array.from({ length: n }, (_, i) => request(`r${i}`)).join('');
const upload = async (text, options = {}) =>
  client.files.create({ file: await toFile(Buffer.from(text), 'requests.jsonl'), purpose: 'batch', ...options });
const create = (file, options = {}) =>
  client.batches.create({ input_file_id: file.id, endpoint: '/v1/chat/completions', completion_window: '24h', ...options });
const lines = async (id) => (await (await client.files.content(id)).text()).trimEnd().split('\n').map((l) => JSON.parse(l));

// Upload.
const file = await upload(requests, { expires_after: { anchor: 'created_at', seconds: 7200 } });
assert.match(file.id, /^file-/);
assert.equal(file.object, 'file');
assert.equal(file.bytes, requests.length);
assert.equal(file.expires_at, file.created_at + 7200);
assert.deepEqual(await client.files.retrieve(file.id), file);
assert.equal((await client.files.waitForProcessing(file.id)).status, 'processed');
assert.deepEqual((await lines(file.id)).map((l) => l.custom_id), Array.from({ length: n }, (_, i) => `r${i}`));

// Create, and poll to the end.
let batch = await create(file, { metadata: { night: 'shift' } });
assert.match(batch.id, /^batch_/);
assert.equal(batch.object, 'batch');
assert.deepEqual(batch.metadata, { night: 'shift' });
while (!['completed', 'failed', 'expired', 'cancelled'].includes(batch.status)) {
  assert.ok(['validating', 'in_progress', 'finalizing'].includes(batch.status), batch.status);
  await new Promise((done) => setTimeout(done, 100));
  batch = await client.batches.retrieve(batch.id);
}
assert.equal(batch.status, 'completed');
assert.equal(batch.errors, null);
const { total, completed, failed } = batch.request_counts;
assert.equal(total, n);
assert.equal(completed + failed, n);
assert.ok(completed > 0 && failed > 0);
assert.ok(batch.usage.input_tokens > 0 && batch.usage.output_tokens > 0);
assert.equal(batch.usage.total_tokens, batch.usage.input_tokens + batch.usage.output_tokens);

// Output and errors.
const output = await lines(batch.output_file_id);
const errors = await lines(batch.error_file_id);
assert.equal(output.length, completed);
assert.equal(errors.length, failed);
for (const l of output) {
  assert.equal(l.response.status_code, 200);
  assert.ok(l.response.body.choices[0].message.content);
  assert.equal(l.error, null);
}
for (const l of errors) assert.ok(l.error.code && l.error.message);
assert.equal(new Set([...output, ...errors].map((l) => l.custom_id)).size, n);

// In parts.
const bytes = Buffer.from(requests);
const parted = await client.uploads.create({ filename: 'requests.jsonl', purpose: 'batch', bytes: bytes.length, mime_type: 'application/jsonl' });
assert.equal(parted.status, 'pending');
const partIDs = [];
for (const data of [bytes.subarray(0, 1000), bytes.subarray(1000)]) {
  partIDs.push((await client.uploads.parts.create(parted.id, { data: await toFile(data, 'part') })).id);
}
const whole = await client.uploads.complete(parted.id, { part_ids: partIDs });
assert.equal(whole.status, 'completed');
assert.equal(whole.file.bytes, bytes.length);
await client.files.delete(whole.file.id);
assert.equal((await client.uploads.cancel((await client.uploads.create({ filename: 'x', purpose: 'batch', bytes: 1, mime_type: 'application/jsonl' })).id)).status, 'cancelled');

// Lists are walked to their end.
for (let i = 0; i < 4; i++) await create(await upload(request(`x${i}`)));
const walk = async (list) => {
  const ids = [];
  for await (const item of list) ids.push(item.id);
  return ids;
};
assert.equal((await walk(client.batches.list({ limit: 2 }))).length, 5);
assert.equal((await walk(client.files.list({ limit: 2, purpose: 'batch' }))).length, 5);
const down = await walk(client.files.list({ limit: 1, purpose: 'batch' }));
const up = await walk(client.files.list({ limit: 3, purpose: 'batch', order: 'asc' }));
assert.deepEqual(up, down.reverse());
const models = await walk(client.models.list());
assert.ok(models.includes('gpt-4'));
assert.equal((await client.models.retrieve('gpt-4')).object, 'model');

// Error classes.
const unknown = '0'.repeat(31) + '1';
await assert.rejects(client.files.retrieve(`file-${unknown}`), OpenAI.NotFoundError);
await assert.rejects(client.batches.retrieve(`batch_${unknown}`), OpenAI.NotFoundError);
await assert.rejects(client.batches.cancel(batch.id), OpenAI.ConflictError);
await assert.rejects(upload('oops\n'), (e) => e instanceof OpenAI.BadRequestError && e.param === 'file' && /line 1/.test(e.message));
await assert.rejects(create(file, { endpoint: '/v1/embeddings' }), OpenAI.BadRequestError);
await assert.rejects(create(file, { completion_window: 'soon' }), OpenAI.BadRequestError);
await assert.rejects(new OpenAI({ baseURL, apiKey: 'sk-wrong' }).files.list(), OpenAI.AuthenticationError);

// Delete.
for (const id of [batch.output_file_id, batch.error_file_id, file.id]) {
  assert.deepEqual(await client.files.delete(id), { id, object: 'file', deleted: true });
  await assert.rejects(client.files.content(id), OpenAI.NotFoundError);
}
console.log('ok');
