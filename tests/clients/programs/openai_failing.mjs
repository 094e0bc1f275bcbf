// What OpenAI's npm client and the AI SDK do about jobs that fail for good: URL and TOKEN as arguments.
// How often each path was called is in called.json at the end.
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, streamText } from "ai";
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import OpenAI from "openai";

const [url, token] = process.argv.slice(2);
const chat = "/v1/chat/completions", response = "/v1/responses";
const model = "demo-llama";
// Behind this character, and so behind its token, what the model puts out is not a number.
const failing = "Fail \u0007";
const atOnce = { model, max_completion_tokens: 8, messages: [{ role: "user", content: failing }] };
const later = { ...atOnce, messages: [{ role: "user", content: "Fail" }], logit_bias: { 196: 100 } };
const respond = { model, input: failing, max_output_tokens: 8 };
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: token });
const called = {};

async function all(stream) {
  const found = [];
  for await (const one of await stream) found.push(one);
  return found;
}

function calling(path) {
  called[path] = (called[path] ?? 0) + 1;
}

async function fails(path, call, check = () => true) {
  calling(path);
  await assert.rejects(call, check);
}

await fails(chat, () => client.chat.completions.create(atOnce), (error) => error.status === 424 && error.code === "engine_error");
console.log("a chat");
await fails(chat, () => all(client.chat.completions.create({ ...atOnce, stream: true })));
await fails(chat, () => all(client.chat.completions.create({ ...later, stream: true })));
console.log("streams of chats");
await fails("/v1/completions", () => client.completions.create({ model, prompt: failing, max_tokens: 4 }));
console.log("a completion");
await fails(response, () => client.responses.create(respond), (error) => error.status === 424);
calling(response);
assert.equal((await all(client.responses.create({ ...respond, stream: true }))).at(-1).type, "response.failed");
console.log("a response, at once and streamed");

const sdk = createOpenAI({ baseURL: `${url}/v1`, apiKey: token });
const silent = { onError: () => {} };
for (const [path, made] of [[chat, sdk.chat(model)], [response, sdk.responses(model)]]) {
  await fails(path, () => generateText({ model: made, prompt: failing }));
  calling(path);
  const parts = await all(streamText({ model: made, prompt: failing, ...silent }).fullStream);
  assert.ok(parts.some((part) => part.type === "error" || part.finishReason === "error"), JSON.stringify(parts));
}
console.log("the AI SDK, by chats and by responses");
writeFileSync("called.json", JSON.stringify(called));
