// What OpenAI's npm client does where the answer of each first try is lost on its way: URL and TOKEN as arguments.
// How many jobs were to be made is in jobs.json at the end.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import OpenAI from "openai";

const [url, token] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: token });
// As hot as may be: only a retry that joins the job of its first try is told what that one was.
const hot = { model: "demo-llama", temperature: 2, max_completion_tokens: 12, messages: [{ role: "user", content: "Say something else" }] };

assert.ok((await client.chat.completions.create(hot)).id);
console.log("a chat");
let last;
for await (const chunk of await client.chat.completions.create({ ...hot, stream: true })) last = chunk;
assert.ok(last.choices[0].finish_reason);
console.log("a stream of a chat");
assert.equal((await client.embeddings.create({ model: "all-minilm", input: "two" })).data.length, 1);
console.log("embeddings");
const kept = await client.responses.create({ model: "demo-llama", input: "Say another thing", max_output_tokens: 12 });
assert.equal((await client.responses.retrieve(kept.id)).output_text, kept.output_text);
console.log("a response");
writeFileSync("jobs.json", "4");
