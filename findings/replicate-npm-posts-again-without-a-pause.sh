#!/usr/bin/env bash
# npm's replicate sends a POST up to six times when its connection breaks before an answer, although the server may have
# made a prediction each time, and six times when it is answered 429. It never pauses between two of them and reads no
# Retry-After: the pause is half a second times a power of two and some random fraction, and it is slept only
# if that is a whole number. A server cannot tell such a retry from a new call: nothing in it says so.
# seen 2026-11-30, node 20.20.2, replicate 1.4.0:
# seen broken connection: 6 POSTs, fetch failed, within a second: true
# seen 429, Retry-After: 5: 6 POSTs, status 429, within a second: true
# seen 500: 1 POSTs, status 500, within a second: true
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT; cd "$folder"
npm init -y >/dev/null
npm install --silent --no-fund --no-audit replicate@1.4.0
cat > seen.mjs <<'JS'
import http from "node:http";
import Replicate from "replicate";

async function run(what, answer) {
  let posts = 0;
  const server = http.createServer((request, response) => {
    posts += 1;
    request.resume().on("end", () => answer(request, response));
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  const client = new Replicate({ auth: "x", baseUrl: `http://127.0.0.1:${server.address().port}/v1` });
  const began = Date.now();
  const said = await client.predictions
    .create({ model: "owner/name", input: { prompt: "x" } })
    .then(() => "no error", (error) => (error.response ? `status ${error.response.status}` : error.message));
  const quick = Date.now() - began < 1000;
  server.closeAllConnections();
  server.close();
  console.log(`${what}: ${posts} POSTs, ${said}, within a second: ${quick}`);
  return `${posts} ${quick}`;
}

const seen = [
  await run("broken connection", (request) => request.socket.destroy()),
  await run("429, Retry-After: 5", (_, response) => response.writeHead(429, { "Retry-After": "5" }).end()),
  await run("500", (_, response) => response.writeHead(500).end()),
];
process.exit(seen.join(", ") === "6 true, 6 true, 1 true" ? 0 : 1);
JS
node --version
node seen.mjs
