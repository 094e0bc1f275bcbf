// Files and batches with OpenAI's npm client: URL and TOKEN as arguments.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI, { toFile } from "openai";

const [url, token] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: token });
const line = (number) => JSON.stringify({
  custom_id: `line ${number}`, method: "POST", url: "/v1/embeddings",
  body: { model: "all-minilm", input: `text ${number}` },
}) + "\n";
const content = Array.from({ length: 20 }, (_, number) => line(number)).join("");
const upload = async (text) => client.files.create({ file: await toFile(Buffer.from(text), "in.jsonl"), purpose: "batch" });
const create = (file) => client.batches.create({ input_file_id: file.id, endpoint: "/v1/embeddings", completion_window: "24h" });
const ended = async (batch) => {
  for (let tries = 0; tries < 1000; tries += 1) {
    if (["completed", "failed", "expired", "cancelled"].includes(batch.status)) return batch;
    await sleep(200);
    batch = await client.batches.retrieve(batch.id);
  }
  throw new Error(`it stays ${batch.status}`);
};

const file = await upload(content);
assert.equal(file.bytes, content.length);
assert.equal(file.filename, "in.jsonl");
console.log("files.create");
assert.deepEqual(await client.files.retrieve(file.id), file);
assert.equal((await client.files.waitForProcessing(file.id)).status, "processed");
console.log("files.retrieve");
assert.equal(await (await client.files.content(file.id)).text(), content);
console.log("files.content");
const ids = [];
for await (const one of client.files.list({ limit: 1 })) ids.push(one.id);
assert.equal(new Set(ids).size, ids.length);
assert.equal(ids[0], file.id);
console.log("files.list in pages");

const done = await ended(await create(file));
assert.equal(done.status, "completed");
assert.deepEqual(done.request_counts, { total: 20, completed: 20, failed: 0 });
console.log("batches.create and retrieve");
const told = (await (await client.files.content(done.output_file_id)).text()).trim().split("\n").map((one) => JSON.parse(one));
assert.deepEqual(told.map((one) => one.custom_id).sort(), Array.from({ length: 20 }, (_, number) => `line ${number}`).sort());
assert.ok(told.every((one) => one.response.status_code === 200 && one.response.body.data[0].embedding.length === 384));
console.log("every custom_id once");
const many = await create(await upload(Array.from({ length: 3000 }, (_, number) => line(number)).join("")));
assert.equal((await client.batches.cancel(many.id)).status, "cancelling");
assert.equal((await ended(many)).status, "cancelled");
console.log("batches.cancel");
const batches = [];
for await (const one of client.batches.list({ limit: 1 })) batches.push(one.id);
assert.equal(new Set(batches).size, batches.length);
assert.ok(batches.includes(done.id));
console.log("batches.list in pages");
assert.equal((await client.files.delete(file.id)).deleted, true);
await assert.rejects(client.files.retrieve(file.id), (error) => error.status === 404);
console.log("files.delete");
