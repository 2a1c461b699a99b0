// The page, and what it asks for. Chats go to router-controller, which the browser cannot reach itself.
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';

const PAGES = { '/': ['index.html', 'text/html'], '/page.js': ['page.js', 'text/javascript'], '/style.css': ['style.css', 'text/css'] };

const SECURITY = {
  'Content-Security-Policy': "default-src 'self'; frame-ancestors 'none'",
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
};

export function makeServer({ controller, log }) {
  return createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://app');
    try {
      if (pathname === '/health') return send(response, 200, { status: 'ok' });
      if (request.method === 'GET' && pathname in PAGES) return await page(response, ...PAGES[pathname]);
      if (request.method === 'GET' && pathname === '/api/policies') return await pass(response, `${controller}/v1/policies`);
      if (request.method === 'POST' && pathname === '/api/chat') return await chat(request, response, controller, log);
      send(response, 404, { error: 'there is no such page' });
    } catch (error) {
      log('error', `${request.method} ${pathname}: ${error.cause?.code ?? error.message}`);
      if (response.headersSent) return response.end();
      send(response, error.status ?? 502, { error: error.status ? error.message : 'the router does not answer' });
    }
  });
}

function send(response, status, body) {
  response.writeHead(status, { ...SECURITY, 'Content-Type': 'application/json' }).end(JSON.stringify(body));
}

// Read anew each time: an edit shows with the next reload.
async function page(response, file, type) {
  const content = await readFile(new URL(`public/${file}`, import.meta.url));
  response.writeHead(200, { ...SECURITY, 'Content-Type': `${type}; charset=utf-8` }).end(content);
}

async function pass(response, url) {
  const answer = await fetch(url, { signal: AbortSignal.timeout(10_000) });
  send(response, answer.status, await answer.json());
}

async function chat(request, response, controller, log) {
  const { question, policy } = await json(request);
  if (typeof question !== 'string' || question.trim() === '') throw refused(400, '`question` is needed');
  const answer = await fetch(`${controller}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ messages: [{ role: 'user', content: question }], router: policy ? { policy } : undefined }),
    signal: AbortSignal.timeout(120_000),
  });
  const body = await answer.json();
  if (!answer.ok) throw refused(answer.status, body.error?.message ?? body.error ?? `the router says ${answer.status}`);
  log('info', `${answer.headers.get('x-router-label')} was answered by ${answer.headers.get('x-router-model')}`);
  send(response, 200, {
    answer: body.choices[0].message.content,
    label: answer.headers.get('x-router-label'),
    model: answer.headers.get('x-router-model'),
  });
}

async function json(request) {
  let text = '';
  for await (const part of request) {
    text += part;
    if (text.length > 100_000) throw refused(413, 'that is too long');
  }
  try {
    return JSON.parse(text) ?? {};
  } catch {
    throw refused(400, 'the body is not JSON');
  }
}

function refused(status, message) {
  return Object.assign(new Error(message), { status });
}
