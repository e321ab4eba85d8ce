/*
 * A receiver of reports and incoming messages; WEBHOOK_SECRET is the whsec_… of `speedsms webhook set`, or
 * several, separated by spaces.
 *
 *     node webhook.mjs 9000
 */

import { createHmac, timingSafeEqual } from 'node:crypto';
import { createServer } from 'node:http';

const TOLERANCE_S = 300;
const BODY_LIMIT = 65_536;
const KEYS = (process.env.WEBHOOK_SECRET ?? '').split(' ').map(signingKey);
const PORT = Number(process.argv[2] ?? 9000);

function signingKey(secret) {
  const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
  if (!secret.startsWith('whsec_') || key.length < 24) {
    throw new TypeError('set WEBHOOK_SECRET'); // an empty key would let everybody in
  }
  return key;
}

/** Whether the gateway signed these bytes (Standard Webhooks), and not long ago. */
function genuine(headers, body) {
  const id = headers['webhook-id'] ?? '';
  const timestamp = headers['webhook-timestamp'] ?? '';
  if (!id || !/^\d{1,15}$/.test(timestamp) || Math.abs(Date.now() / 1000 - timestamp) > TOLERANCE_S) return false;
  const signatures = (headers['webhook-signature'] ?? '').split(' '); // several while a secret is changed
  return KEYS.some((key) => {
    const ours = `v1,${createHmac('sha256', key).update(`${id}.${timestamp}.`).update(body).digest('base64')}`;
    return signatures.some((theirs) => same(Buffer.from(ours), Buffer.from(theirs)));
  });
}

function same(ours, theirs) {
  return ours.length === theirs.length && timingSafeEqual(ours, theirs);
}

/** Your work. The same id may come again: keep it four days, with a unique index, and skip what you have seen. */
function received(id, event) {
  if (event.type === 'report') {
    const word = event.status === 0 ? 'delivered' : event.status < 64 ? 'still trying' : 'failed';
    console.log(`report ${id}: tranId ${event.tranId} to ${event.phone}: ${word} (${event.status})`);
  } else if (event.type === 'sms') {
    // Quoted: strangers write these texts, and a line break in one would forge a line of the log.
    console.log(`incoming ${id}: ${event.phone}: ${JSON.stringify(event.content)}`);
  } // else of a later release
}

async function answer(request) {
  if (request.method !== 'POST') return 405;
  const chunks = []; // the very bytes that were signed
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > BODY_LIMIT) return 413;
    chunks.push(chunk);
  }
  const body = Buffer.concat(chunks);
  if (!genuine(request.headers, body)) return 401;
  received(request.headers['webhook-id'], JSON.parse(body));
  return 204; // within 15 s, or it is posted again: work that takes longer goes to a queue
}

createServer((request, response) => {
  answer(request)
    .catch((error) => {
      console.error(error.message);
      return 500;
    })
    .then((status) => response.writeHead(status, status === 413 ? { Connection: 'close' } : {}).end());
}).listen(PORT, '127.0.0.1', () => console.log(`listening on http://127.0.0.1:${PORT}/`));
