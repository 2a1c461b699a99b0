// What `helm test` runs: every component answers, and they find each other. No LLM is asked, for that may cost money.
const { SERVER, METRICS, CONTROLLER, APP } = process.env;
let failed = 0;

async function check(what, url, expected, options) {
  let seen;
  try {
    const answer = await fetch(url, { ...options, signal: AbortSignal.timeout(10_000) });
    seen = `${answer.status} ${await answer.text()}`;
  } catch (error) {
    seen = error.cause?.code ?? error.message;
  }
  const ok = expected.test(seen);
  console.log(ok ? `ok ${what}` : `FAILED ${what}: ${seen} is not ${expected}`);
  failed += !ok;
}

const post = (body) => ({ method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) });

await check('router-server is alive', `${SERVER}/v2/health/live`, /^200/);
await check('router-server is ready', `${SERVER}/v2/health/ready`, /^200/);
await check('router-server has models', `${SERVER}/v2/models`, /"state": "READY"/);
await check('router-server counts', `${METRICS}/metrics`, /router_models [1-9]/);
await check('router-controller is healthy', `${CONTROLLER}/health`, /"ok"/);
await check('router-controller routes by what router-server says', `${CONTROLLER}/v1/route`, /^200 .*"label":"\w+","model":"[^"]+"/,
  post({ messages: [{ role: 'user', content: 'write a python function that sorts a list' }] }));
await check('app is healthy', `${APP}/health`, /"ok"/);
await check('app finds router-controller', `${APP}/api/policies`, /^200 .*"policies"/);
process.exit(failed ? 1 : 0);
