/** Submit, poll, stream and cancel with openapi-typescript's types and openapi-fetch: `URL TOKEN` as arguments. */
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { paths } from "./generated/schema.js";

const [, , baseUrl, token] = process.argv;
const api = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });

const made = await api.POST("/v1/jobs", {
  body: { model: "echo", prompt: "one two", params: { repeat: 2 }, metadata: { order: "4711" } },
});
assert.ok(made.data, JSON.stringify(made.error));
assert.equal(made.response.status, 202);

const path = { job_id: made.data.id };
const polled = await api.GET("/v1/jobs/{job_id}", { params: { path, query: { wait: 20 } } });
assert.equal(polled.data?.status, "succeeded");
assert.deepEqual(polled.data?.metadata, { order: "4711" });

const events = await api.GET("/v1/jobs/{job_id}/events", { params: { path }, parseAs: "text" });
const said = [...String(events.data).matchAll(/^data: (\{"text".*)$/gm)].map((line) => JSON.parse(line[1]).text);
assert.deepEqual(polled.data?.output, { text: said.join(""), finish_reason: "stop" });

const inferred = await api.POST("/v1/infer", { body: { model: "echo", input: "at once", priority: "high" } });
assert.deepEqual(inferred.data?.output, { text: "at once", finish_reason: "stop" });

const slow = await api.POST("/v1/jobs", { body: { model: "slow", prompt: "never ends" } });
assert.ok(slow.data);
const slowPath = { job_id: slow.data.id };
const canceled = await api.POST("/v1/jobs/{job_id}/cancel", { params: { path: slowPath } });
assert.ok(canceled.data, JSON.stringify(canceled.error));
const ended = await api.GET("/v1/jobs/{job_id}", { params: { path: slowPath, query: { wait: 20 } } });
assert.equal(ended.data?.status, "canceled");

const refused = await api.POST("/v1/jobs", { body: { model: "echo", prompt: "x", params: { typo: 1 } } });
assert.equal(refused.error?.code, "invalid_request");
console.log("all answers were right");
