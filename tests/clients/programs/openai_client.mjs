// Chats, streams, embeddings and refusals with OpenAI's npm client and the AI SDK: URL and TOKEN as arguments.
import { createOpenAI } from "@ai-sdk/openai";
import { embedMany, generateText, jsonSchema, streamText, tool } from "ai";
import assert from "node:assert/strict";
import OpenAI from "openai";

const [url, token] = process.argv.slice(2);
const model = "demo-llama";
const messages = [{ role: "user", content: "The function returns" }];
const short = { model, messages, max_completion_tokens: 12, temperature: 0 };
let sent = 0;
const counted = (...given) => { sent += 1; return fetch(...given); };
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: token, fetch: counted });

async function refused(status, call) {
  const before = sent;
  await assert.rejects(call, (error) => error.status === status);
  assert.equal(sent, before + 1, "sent again");
}

const said = await client.chat.completions.create(short);
const text = said.choices[0].message.content;
assert.ok(text);
console.log("chat");

let told = "", usage;
const stream = await client.chat.completions.create({ ...short, stream: true, stream_options: { include_usage: true } });
for await (const chunk of stream) {
  told += chunk.choices[0]?.delta?.content ?? "";
  usage = chunk.usage ?? usage;
}
assert.equal(told, text);
assert.equal(usage.completion_tokens, said.usage.completion_tokens);
console.log("chat stream with usage");

const runner = client.chat.completions.stream({ ...short, n: 2 });
const final = await runner.finalChatCompletion();
assert.deepEqual(final.choices.map((choice) => choice.message.content), [text, text]);
console.log("chat stream of two choices, put together by the client");

const schema = {
  type: "object",
  properties: { city: { enum: ["Oslo", "São Paulo"] } },
  required: ["city"],
  additionalProperties: false,
};
const tools = [{ type: "function", function: { name: "weather", parameters: schema } }];
const calling = { model, messages, tools, tool_choice: "required", parallel_tool_calls: false, seed: 5 };
const called = await client.chat.completions.create(calling);
const [call] = called.choices[0].message.tool_calls;
assert.ok(schema.properties.city.enum.includes(JSON.parse(call.function.arguments).city));
const gathered = await client.chat.completions.stream(calling).finalChatCompletion();
assert.deepEqual(gathered.choices[0].message.tool_calls.map(({ id, function: f }) => [id, f.name, f.arguments]), [
  [call.id, "weather", call.function.arguments],
]);
assert.equal(gathered.choices[0].finish_reason, "tool_calls");
console.log("calls of tools, at once and put together by the client");

const vectors = await client.embeddings.create({ model: "all-minilm", input: ["one", "two"] });
assert.deepEqual(vectors.data.map((one) => one.embedding.length), [384, 384]);
console.log("embeddings");

const names = [];
for await (const found of client.models.list()) names.push(found.id);
assert.ok(names.includes("all-minilm") && names.includes("demo-llama"));
console.log("models");

await refused(404, () => client.chat.completions.create({ ...short, model: "nobody" }));
await refused(400, () => client.chat.completions.create({ ...short, max_completion_tokens: 1e6 }));
console.log("refusals, each asked once");

const sdk = createOpenAI({ baseURL: `${url}/v1`, apiKey: token, fetch: counted });
const asked = { model: sdk.chat(model), prompt: messages[0].content, maxOutputTokens: 12, temperature: 0 };
assert.equal((await generateText(asked)).text, text);
let streamed = "";
for await (const piece of streamText(asked).textStream) streamed += piece;
assert.equal(streamed, text);
const weather = tool({ inputSchema: jsonSchema(schema) });
const using = { ...asked, model: sdk.chat(model), maxOutputTokens: 120, tools: { weather }, toolChoice: "required", providerOptions: { openai: { parallelToolCalls: false } } };
const { toolCalls } = await generateText(using);
assert.ok(toolCalls.length > 0);
assert.ok(toolCalls.every((one) => schema.properties.city.enum.includes(one.input.city)));
assert.deepEqual((await streamText(using).toolCalls).map((one) => one.input), toolCalls.map((one) => one.input));
const { embeddings } = await embedMany({ model: sdk.embedding("all-minilm"), values: ["one", "two"] });
assert.equal(embeddings[0].length, 384);
const before = sent;
await assert.rejects(generateText({ ...asked, model: sdk.chat("nobody") }));
assert.equal(sent, before + 1);
console.log("AI SDK");
