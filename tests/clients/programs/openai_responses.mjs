// Responses with OpenAI's npm client and the AI SDK, which uses them by default: URL and TOKEN as arguments.
import { createOpenAI } from "@ai-sdk/openai";
import { generateObject, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import assert from "node:assert/strict";
import OpenAI from "openai";

const [url, token] = process.argv.slice(2);
const model = "demo-llama";
const ask = { model, input: "The function returns", max_output_tokens: 12, temperature: 0 };
const long = { ...ask, max_output_tokens: 300, ignore_eos: true };
const parameters = {
  type: "object",
  properties: { word: { enum: ["one", "two"] } },
  required: ["word"],
  additionalProperties: false,
};
const lookUp = { type: "function", name: "look_up", strict: true, parameters };
const call = { ...ask, max_output_tokens: 64, parallel_tool_calls: false, tools: [lookUp], tool_choice: "required" };
const ending = /^response\.(completed|incomplete)$/;
let sent = 0;
const counted = (...given) => { sent += 1; return fetch(...given); };
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: token, fetch: counted });

async function refused(status, make, code) {
  const before = sent;
  await assert.rejects(make, (error) => error.status === status && (!code || error.code === code));
  assert.equal(sent, before + 1, "sent again");
}

async function all(stream) {
  const found = [];
  for await (const event of await stream) found.push(event);
  return found;
}

async function ended(response) {
  while (["queued", "in_progress"].includes(response.status)) {
    await new Promise((done) => setTimeout(done, 100));
    response = await client.responses.retrieve(response.id);
  }
  return response;
}

const told = (events) => events.filter((e) => e.type === "response.output_text.delta").map((e) => e.delta).join("");

const said = await client.responses.create(ask);
const text = said.output_text;
assert.ok(text && said.usage.output_tokens <= 12);
console.log("a response");

assert.deepEqual(await client.responses.retrieve(said.id), said);
console.log("retrieve");

const events = await all(client.responses.create({ ...ask, stream: true }));
assert.equal(told(events), text);
assert.deepEqual(events.map((event) => event.sequence_number), events.map((_, place) => place));
assert.match(events.at(-1).type, ending);
console.log("a stream with numbered events");

const runner = client.responses.stream(ask);
const final = await runner.finalResponse();
assert.equal(final.output_text, text);
console.log("a stream, put together by the client");

const called = await client.responses.create(call);
assert.equal(called.output[0].name, "look_up");
const result = { type: "function_call_output", call_id: called.output[0].call_id, output: "a number" };
assert.ok((await client.responses.create({ ...ask, previous_response_id: called.id, input: [result] })).id);
console.log("a call of a tool, and its result");

const calling = await all(client.responses.create({ ...call, stream: true }));
const pieces = calling.filter((event) => event.type === "response.function_call_arguments.delta");
const whole = calling.find((event) => event.type === "response.function_call_arguments.done");
assert.equal(pieces.map((event) => event.delta).join(""), whole.arguments);
console.log("a streamed call of a tool");

const second = await client.responses.create({ ...ask, input: "More", previous_response_id: said.id });
const items = [];
for await (const item of client.responses.inputItems.list(second.id, { limit: 2 })) items.push(item.type);
assert.deepEqual(items, ["message", "message", "message"]);
console.log("a response that goes on with another, and its input items");

const queued = await client.responses.create({ ...ask, background: true });
assert.equal(queued.status, "queued");
assert.equal((await ended(queued)).output_text, text);
console.log("in the background");

const live = await client.responses.create({ ...long, background: true, stream: true });
const head = [];
for await (const event of live) {
  head.push(event);
  if (event.type === "response.output_text.delta") break;
}
const id = head[0].response.id;
const after = { stream: true, starting_after: head.at(-1).sequence_number };
const tail = await all(client.responses.retrieve(id, after));
assert.deepEqual([...head, ...tail], await all(client.responses.retrieve(id, { stream: true })));
assert.equal(told([...head, ...tail]), (await ended(await client.responses.retrieve(id))).output_text);
console.log("a stream that is taken up behind an event");

const running = await client.responses.create({ ...long, temperature: 1, background: true });
assert.equal((await client.responses.cancel(running.id)).status, "cancelled");
console.log("cancel");

await client.responses.delete(said.id);
await refused(404, () => client.responses.retrieve(said.id), "response_not_found");
await refused(400, () => client.responses.create({ ...ask, previous_response_id: said.id }), "previous_response_not_found");
console.log("delete");

await refused(404, () => client.responses.create({ ...ask, model: "nobody" }));
await refused(400, () => client.responses.create({ ...ask, tools: [{ type: "web_search" }] }));
await refused(400, () => client.responses.create({ ...ask, conversation: "conv_1" }));
console.log("refusals, each asked once");

const sdk = createOpenAI({ baseURL: `${url}/v1`, apiKey: token, fetch: counted });
const asked = { model: sdk(model), prompt: ask.input, maxOutputTokens: 12, temperature: 0 };
const generated = await generateText(asked);
assert.equal(generated.text, text);
assert.ok(generated.usage.outputTokens <= 12);
console.log("AI SDK: text");

let streamed = "";
for await (const piece of streamText(asked).textStream) streamed += piece;
assert.equal(streamed, text);
console.log("AI SDK: a stream");

const schema = jsonSchema(parameters);
const { object } = await generateObject({ ...asked, maxOutputTokens: 64, schema });
assert.ok(["one", "two"].includes(object.word));
console.log("AI SDK: an object");

const words = [];
const look_up = tool({ inputSchema: schema, execute: ({ word }) => { words.push(word); return "a number"; } });
const tools = { look_up };
const steps = await generateText({
  ...asked,
  maxOutputTokens: 64,
  tools,
  providerOptions: { openai: { parallelToolCalls: false } },
  stopWhen: stepCountIs(2),
  prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
});
assert.equal(steps.steps.length, 2);
assert.ok(words.length >= 1 && words.every((word) => ["one", "two"].includes(word)));
console.log("AI SDK: a tool is called and answered, by references to kept items");

const calls = [];
const stepped = streamText({
  ...asked, maxOutputTokens: 64, tools: { look_up: tool({ inputSchema: schema }) }, toolChoice: "required",
  providerOptions: { openai: { parallelToolCalls: false } },
});
for await (const part of stepped.fullStream) if (part.type === "tool-call") calls.push(part.input.word);
assert.equal(calls.length, 1);
console.log("AI SDK: a streamed call of a tool");

const chained = await generateText({
  ...asked, prompt: "More", providerOptions: { openai: { previousResponseId: second.id } },
});
assert.ok(chained.response.id.startsWith("resp_"));
console.log("AI SDK: a response that goes on with another");

let before = sent;
await assert.rejects(generateText({ ...asked, model: sdk("nobody") }));
assert.equal(sent, before + 1);
console.log("AI SDK: a refusal, asked once");
