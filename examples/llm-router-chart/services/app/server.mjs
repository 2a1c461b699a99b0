import { makeServer } from './app.mjs';

const LEVELS = ['debug', 'info', 'warn', 'error'];
const least = LEVELS.indexOf(process.env.LOG_LEVEL ?? 'info');
const text = process.env.LOG_FORMAT === 'text';

function log(level, message) {
  if (LEVELS.indexOf(level) < least) return;
  const time = new Date().toISOString();
  console.log(text ? `${time} ${level} ${message}` : JSON.stringify({ time, level, component: 'app', message }));
}

const controller = process.env.ROUTER_CONTROLLER_URL ?? 'http://localhost:8084';
const server = makeServer({ controller, log });
const port = Number(process.env.PORT ?? 8008);
server.listen(port, () => log('info', `serving on ${port}, asking ${controller}`));
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => server.close(() => process.exit(0)));
