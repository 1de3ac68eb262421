// The OpenAI Node SDK against the gateway; TOLLGATE_URL and TOLLGATE_KEY say where it is.
import assert from "node:assert/strict";
import { test } from "node:test";
import OpenAI from "openai";

const client = new OpenAI({
  baseURL: `${process.env.TOLLGATE_URL}/v1`,
  apiKey: process.env.TOLLGATE_KEY,
  maxRetries: 0,
  timeout: 60_000,
});
const messages = [{ role: "user", content: "What does textwrap.dedent do?" }];

test("a chat is answered under the name it was asked for", async () => {
  const { data, response } = await client.chat.completions
    .create({ model: "gpt-4o", messages, max_tokens: 8 })
    .withResponse();
  assert.equal(data.model, "gpt-4o");
  assert.ok(data.choices[0].message.content);
  assert.match(response.headers.get("x-request-id"), /^req_/);
  assert.equal(response.headers.get("x-tollgate-model"), "scribe@fp8");
});

test("a stream ends and has no usage unless asked for", async () => {
  const stream = await client.chat.completions.create({ model: "mini", messages, max_tokens: 8, stream: true });
  let chunks = 0;
  for await (const chunk of stream) {
    chunks += 1;
    assert.equal(chunk.choices.length, 1);
    assert.equal(chunk.usage ?? null, null);
  }
  assert.ok(chunks > 2);
});

test("a stream tells its usage when asked", async () => {
  const stream = await client.chat.completions.create({
    model: "mini",
    messages,
    max_tokens: 8,
    stream: true,
    stream_options: { include_usage: true },
  });
  let usage = null;
  for await (const chunk of stream) usage = chunk.usage ?? usage;
  assert.ok(usage.completion_tokens > 0);
});

test("a stream that the client aborts just ends", async () => {
  const stream = await client.chat.completions.create({ model: "scribe", messages, max_tokens: 500, stream: true });
  let chunks = 0;
  for await (const _ of stream) if (++chunks === 3) stream.controller.abort();
  assert.equal(chunks, 3);
});

test("embeddings", async () => {
  const answer = await client.embeddings.create({ model: "embedder", input: "a cat" });
  assert.ok(answer.data[0].embedding.length > 16);
});

test("errors have their classes", async () => {
  await assert.rejects(client.chat.completions.create({ model: "gpt-9", messages }), OpenAI.NotFoundError);
  await assert.rejects(
    client.chat.completions.create({ model: "mini", messages, temperature: -1 }),
    OpenAI.BadRequestError,
  );
  const stranger = new OpenAI({ baseURL: client.baseURL, apiKey: "sk-wrong", maxRetries: 0 });
  await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
});

test("models", async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.ok(ids.includes("scribe:sql"));
});
