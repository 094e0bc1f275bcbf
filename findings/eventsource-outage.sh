#!/usr/bin/env bash
# npm's eventsource (and browsers, by the HTML standard) reconnects after a connection that ended, and never again
# after one answer that is not 200: a server's short 503 between two good connections ends the reader for good.
# Readers that are to survive an outage must get 200 text/event-stream during it.
# seen 2026-11-30, node 20.20.2, eventsource 5.1.5:
# seen second answer 200: 3 calls, data 1 2 3, then OPEN
# seen second answer 503: 2 calls, data 1, then CLOSED
# seen second answer 429: 2 calls, data 1, then CLOSED
# seen second answer 502: 2 calls, data 1, then CLOSED
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
npm init -y >/dev/null
npm install --silent --no-fund --no-audit eventsource@5.1.5
cat > seen.mjs <<'JS'
import http from "node:http";
import { EventSource } from "eventsource";

// Answers in turn: 200 and hang up, then what `second` says, then 200 for ever.
async function run(second) {
  let calls = 0;
  const server = http.createServer((request, response) => {
    calls += 1;
    if (calls === 2 && second !== 200) {
      response.writeHead(second, { "Retry-After": "1" }).end();
      return;
    }
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write(`retry: 50\n\nid: ${calls}\ndata: ${calls}\n\n`);
    if (calls < 3) setTimeout(() => response.end(), 20);
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const source = new EventSource(`http://127.0.0.1:${server.address().port}/`);
  const data = [];
  source.onmessage = (event) => data.push(event.data);
  source.onerror = () => {};
  await new Promise((done) => setTimeout(done, 3000));
  const state = ["CONNECTING", "OPEN", "CLOSED"][source.readyState];
  source.close();
  server.closeAllConnections();
  server.close();
  console.log(`second answer ${second}: ${calls} calls, data ${data.join(" ")}, then ${state}`);
  return state;
}

const states = [];
for (const second of [200, 503, 429, 502]) states.push(await run(second));
process.exit(states.join(" ") === "OPEN CLOSED CLOSED CLOSED" ? 0 : 1);
JS
node --version
node seen.mjs
