import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, test } from 'node:test';

import { makeServer } from './app.mjs';

const listening = (server) => new Promise((done) => {
  server.listen(0, '127.0.0.1', () => done(`http://127.0.0.1:${server.address().port}`));
  after(() => server.close());
});

// A router that answers with what it was asked, or not at all well.
const controller = await listening(createServer(async (request, response) => {
  let body = '';
  for await (const part of request) body += part;
  if (body.includes('fail')) return response.writeHead(503).end('{"error": {"message": "nobody answers that"}}');
  response.setHeader('X-Router-Label', 'chat').setHeader('X-Router-Model', 'talker');
  response.end(request.url === '/v1/policies' ? '{"policies": []}' : JSON.stringify({ choices: [{ message: { content: body } }] }));
}));
const app = await listening(makeServer({ controller, log: () => {} }));
const lonely = await listening(makeServer({ controller: 'http://127.0.0.1:1', log: () => {} }));
const ask = (server, body) => fetch(`${server}/api/chat`, { method: 'POST', body });

test('it is healthy without a router', async () => {
  assert.deepEqual(await (await fetch(`${lonely}/health`)).json(), { status: 'ok' });
});

test('the page comes with its security headers', async () => {
  const page = await fetch(`${app}/`);
  assert.match(await page.text(), /<h1>LLM Router/);
  assert.match(page.headers.get('content-security-policy'), /default-src 'self'/);
});

test('a chat goes to the router, and says who answered', async () => {
  const { answer, label, model } = await (await ask(app, '{"question": "hello", "policy": "p"}')).json();
  assert.deepEqual(JSON.parse(answer), { messages: [{ role: 'user', content: 'hello' }], router: { policy: 'p' } });
  assert.deepEqual([label, model], ['chat', 'talker']);
});

test('what the router refuses is said', async () => {
  const answer = await ask(app, '{"question": "fail"}');
  assert.deepEqual([answer.status, await answer.json()], [503, { error: 'nobody answers that' }]);
});

test('bad questions are refused', async () => {
  for (const body of ['', 'null', '{"question": " "}', '{']) assert.equal((await ask(app, body)).status, 400, body);
  assert.equal((await ask(app, JSON.stringify({ question: 'x'.repeat(200_000) }))).status, 413);
  assert.equal((await fetch(`${app}/../secret`)).status, 404);
});

test('a router that is away is a bad gateway', async () => {
  assert.equal((await ask(lonely, '{"question": "hello"}')).status, 502);
});
