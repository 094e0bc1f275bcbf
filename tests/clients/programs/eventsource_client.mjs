// Streams with the npm package eventsource, cut off in their middle: URL and TOKEN as arguments.
import assert from "node:assert/strict";
import { EventSource } from "eventsource";

const [url, token] = process.argv.slice(2);
const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
const words = "one two https://a.example three\nfour data:, five six";

async function made(path, body) {
  const answer = await fetch(`${url}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
  const text = await answer.text();
  assert.ok(answer.ok, text);
  return JSON.parse(text);
}

// A fetch whose answers break off after so many bytes, the first `cuts` times; it counts and keeps what was asked.
function cutting(bytes, cuts) {
  const asked = [];
  const cut = async (target, init) => {
    asked.push(init.headers["Last-Event-ID"]);
    const answer = await fetch(target, init);
    if (asked.length > cuts || answer.status !== 200) return answer;
    let left = bytes;
    const short = new TransformStream({
      transform(chunk, controller) {
        controller.enqueue(chunk.subarray(0, left));
        left -= chunk.length;
        if (left <= 0) controller.terminate();
      },
    });
    const broken = new Response(answer.body.pipeThrough(short), { status: 200, headers: answer.headers });
    return { body: broken.body, url: answer.url, status: 200, redirected: false, headers: answer.headers };
  };
  return { cut, asked };
}

function follow(stream, options, kinds) {
  return new Promise((resolve, reject) => {
    const source = new EventSource(stream, options), told = [];
    for (const kind of kinds) source.addEventListener(kind, (event) => {
      told.push(event);
      if (kind === "done") { source.close(); resolve(told); }
    });
    setTimeout(() => { source.close(); reject(new Error("no end")); }, 60000).unref();
  });
}

const native = await made("/v1/jobs", { model: "echo", prompt: words, params: { step_ms: 20 } });
const tokens = (events) => events.filter((one) => one.type === "token").map((one) => JSON.parse(one.data).text).join("");
assert.equal(tokens(await follow(native.urls.events, {}, ["token", "done"])), words);
console.log("a native stream, with its ticket");

const cutNative = cutting(300, 2);
assert.equal(tokens(await follow(native.urls.events, { fetch: cutNative.cut }, ["token", "done"])), words);
assert.equal(cutNative.asked.length, 3);
assert.ok(cutNative.asked.slice(1).every((id) => /^\d+-\d+$/.test(id)), String(cutNative.asked));
console.log("a native stream that breaks off goes on");

const prediction = await made("/v1/models/truthgpt/echo/predictions", { input: { prompt: words, step_ms: 20 } });
const said = (events) => events.filter((one) => one.type === "output").map((one) => one.data).join("");
assert.equal(said(await follow(prediction.urls.stream, {}, ["output", "done"])), words);
console.log("a stream of a prediction, with its ticket");

for (const bytes of [60, 125, 200]) {
  const { cut, asked } = cutting(bytes, 2);
  assert.equal(said(await follow(prediction.urls.stream, { fetch: cut }, ["output", "done"])), words, String(bytes));
  assert.ok(asked.length > 1);
}
console.log("a stream of a prediction that breaks off anywhere goes on");

const [last] = (await follow(prediction.urls.stream, {}, ["output", "done"])).slice(-1);
const again = await fetch(prediction.urls.stream, { headers: { "Last-Event-ID": last.lastEventId } });
assert.equal(again.status, 204);
console.log("behind done there is nothing, and browsers stop");

const stopped = new EventSource(`${prediction.urls.stream}x`);
const error = await new Promise((resolve) => { stopped.onerror = resolve; });
assert.equal(error.code, 401);
assert.equal(stopped.readyState, 2);
console.log("a wrong ticket opens nothing");
