// Predictions, streams, models, webhooks and refusals with Replicate's npm client: URL and TOKEN as arguments.
import assert from "node:assert/strict";
import http from "node:http";
import Replicate, { validateWebhook } from "replicate";

const [url, token] = process.argv.slice(2);
const model = "truthgpt/demo-llama";
const input = { prompt: "The function returns", max_new_tokens: 12 };
const sent = [];
const counted = (target, init) => { sent.push({ target: String(target), method: init?.method ?? "GET", init }); return fetch(target, init); };
const client = new Replicate({ auth: token, baseUrl: `${url}/v1`, fetch: counted });

async function refused(status, call) {
  const before = sent.length;
  await assert.rejects(call, (error) => error.response?.status === status);
  assert.equal(sent.length, before + 1, "sent again");
}

const output = await client.run(model, { input });
const text = output.join("");
assert.ok(text);
console.log("run");

const [owner, name] = model.split("/");
const version = (await client.models.get(owner, name)).latest_version.id;
assert.equal((await client.run(`${model}:${version}`, { input })).join(""), text);
console.log("run a version");

const polled = [];
const run = await client.run(model, { input, wait: { mode: "poll", interval: 100 } }, (one) => polled.push(one.status));
assert.equal(run.join(""), text);
assert.ok(["starting", "succeeded"].includes(polled[0]) && polled.at(-1) === "succeeded", polled);
console.log("run and poll, with progress");

const waited = await client.predictions.create({ model, input, wait: 30 });
assert.equal(waited.status, "succeeded");
assert.equal(waited.output.join(""), text);
console.log("create with wait");

const slow = { prompt: "a b", step_ms: 60000 };
const early = await client.predictions.create({ model: "truthgpt/echo", input: slow, wait: 1 });
assert.equal(early.status, "starting");
console.log("a wait that ends too early");

const canceled = await client.wait(await client.predictions.cancel(early.id));
assert.equal(canceled.status, "canceled");
console.log("cancel");

const streamOf = async (from) => { let told = ""; for await (const event of from) if (event.event === "output") told += event.data; return told; };
sent.length = 0;
assert.equal(await streamOf(client.stream(model, { input })), text);
const opened = sent.find((one) => one.target.includes("/stream"));
assert.equal(opened.init.headers.Authorization, undefined);
console.log("stream, which sends no token");

const lines = { prompt: "one\ntwo\n\n three \u2028 four\n", step_ms: 1 };
assert.equal(await streamOf(client.stream("truthgpt/echo", { input: lines })), lines.prompt);
console.log("lines, blanks and Unicode separators come as they are");

const ended = await client.predictions.get(waited.id);
assert.deepEqual(ended.output, waited.output);
assert.equal(ended.urls.get, `${url}/v1/predictions/${waited.id}`);
console.log("get");

let listed = 0;
for await (const page of client.paginate(client.predictions.list)) listed += page.length;
assert.ok(listed >= 8, String(listed));
console.log("pages of predictions");

const names = [];
for await (const page of client.paginate(client.models.list)) names.push(...page.map((one) => `${one.owner}/${one.name}`));
assert.ok(names.includes(model));
console.log("models");

const versions = await client.models.versions.list(owner, name);
assert.deepEqual(versions.results.map((one) => one.id), [version]);
assert.ok((await client.models.versions.get(owner, name, version)).openapi_schema.components.schemas.Input);
console.log("versions");

const deployed = await client.deployments.predictions.create(owner, name, { input, wait: 30 });
assert.equal(deployed.output.join(""), text);
assert.equal((await client.deployments.get(owner, name)).current_release.version, version);
console.log("deployments");

assert.equal((await client.accounts.current()).username, "default");
console.log("account");

sent.length = 0;
await assert.rejects(client.run("truthgpt/broken", { input: { input: 1 } }), /Prediction failed/);
assert.equal(sent.filter((one) => one.method === "POST").length, 1);
console.log("a job that fails for good is posted once");

await assert.rejects(streamOf(client.stream("truthgpt/broken", { input: { input: 1 } })));
console.log("a failed stream raises");

await refused(422, () => client.predictions.create({ model, input: { ...input, temperature: -1 } }));
await refused(404, () => client.predictions.create({ model: "truthgpt/nobody", input }));
await refused(404, () => client.predictions.create({ version: "0".repeat(64), input }));
await refused(404, () => client.predictions.get("job_" + "0".repeat(32)));
await refused(401, () => new Replicate({ auth: "wrong", baseUrl: `${url}/v1`, fetch: counted }).models.list());
console.log("refusals, each asked once");

const arrived = new Promise((resolve) => {
  const server = http.createServer((request, response) => {
    let body = "";
    request.on("data", (data) => { body += data; });
    request.on("end", () => { response.writeHead(204).end(); server.close(); resolve({ headers: request.headers, body }); });
  }).listen(0, "127.0.0.1", async () => {
    await client.predictions.create({
      model, input, webhook: `http://127.0.0.1:${server.address().port}/hook`, webhook_events_filter: ["completed"],
    });
  });
});
const message = await arrived;
const { key } = await client.webhooks.default.secret.get();
assert.equal(await validateWebhook(message, key), true);
assert.equal(await validateWebhook({ ...message, body: message.body + " " }, key), false);
assert.equal(JSON.parse(message.body).output.join(""), text);
console.log("a webhook is the prediction, signed");
