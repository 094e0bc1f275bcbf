/** Submit, poll, stream and cancel with hey-api's generated client: `URL TOKEN` as arguments. */
import assert from "node:assert/strict";
import { client } from "./generated/client.gen.js";
import { cancelJob, createJob, getJob, inferNow, jobEvents } from "./generated/sdk.gen.js";

const [, , baseUrl, token] = process.argv;
client.setConfig({ baseUrl, auth: token });

const made = await createJob({
  body: { model: "echo", prompt: "one two", params: { repeat: 2 }, metadata: { order: "4711" } },
});
assert.ok(made.data, JSON.stringify(made.error));

const path = { job_id: made.data.id };
const polled = await getJob({ path, query: { wait: 20 } });
assert.equal(polled.data?.status, "succeeded");

let said = "";
const { stream } = await jobEvents({ path, sseMaxRetryAttempts: 1 });
for await (const data of stream) {
  const event = data as { text?: string; status?: string; id?: string };
  said += event.text ?? "";
  if (event.id) break;
}
assert.deepEqual(polled.data?.output, { text: said, finish_reason: "stop" });

const inferred = await inferNow({ body: { model: "echo", input: "at once", priority: "high" } });
assert.deepEqual(inferred.data?.output, { text: "at once", finish_reason: "stop" });

const slow = await createJob({ body: { model: "slow", prompt: "never ends" } });
assert.ok(slow.data);
const slowPath = { job_id: slow.data.id };
await cancelJob({ path: slowPath, throwOnError: true });
const ended = await getJob({ path: slowPath, query: { wait: 20 } });
assert.equal(ended.data?.status, "canceled");

const refused = await createJob({ body: { model: "echo", prompt: "x", params: { typo: 1 } } });
assert.equal(refused.error?.code, "invalid_request");
console.log("all answers were right");
process.exit(0);
