// A webhook as a user of OpenAI's own client verifies it. Standard input is JSON:
// headers and body as they were posted, the endpoint's secret and the batch.
import assert from 'node:assert/strict';
import { text } from 'node:stream/consumers';
import OpenAI from 'openai';

const { headers, body, secret, batch } = JSON.parse(await text(process.stdin));
const { webhooks } = new OpenAI({ apiKey: 'unused', webhookSecret: secret });

const event = await webhooks.unwrap(body, headers);
assert.equal(event.type, 'batch.completed');
assert.equal(event.object, 'event');
assert.equal(event.id, headers['Webhook-Id']);
assert.deepEqual(event.data, { id: batch });

const refused = OpenAI.InvalidWebhookSignatureError;
const other = `whsec_${Buffer.alloc(32, 1).toString('base64')}`;
await assert.rejects(webhooks.unwrap(body.replace(batch, 'batch_0'), headers), refused);
await assert.rejects(webhooks.unwrap(body, headers, other), refused);
await assert.rejects(webhooks.unwrap(body, { ...headers, 'Webhook-Id': 'evt_0' }), refused);
